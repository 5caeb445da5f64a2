internal import DefinitionFiles
internal import Yams

/// What happens to a row that `protect` has hidden, when no ID holds it any more.
public enum Restore: Sendable, Hashable {
  /// The row stays hidden. Its former values are not kept.
  case none
  /// The row gets its former values back. If these values are unknown, because an earlier version of Lethe hid the
  /// row and kept no former values, `fallback` is used.
  case former(fallback: [ColumnValue], ifWritten: IfWritten)

  /// What happens to a row that another program has changed since the export, if the held columns still have the values
  /// that Lethe set.
  public enum IfWritten: String, Sendable, Hashable, Codable {
    /// The restore waits for the next answer about the ID. Lethe detects the change by the row version. So this needs a
    /// table whose row versions show each change.
    case wait
    /// The row is restored.
    case ignore
  }

  public var keepsHolds: Bool { self != .none }

  /// Whether a row is restored although another program has changed it since the export.
  package var ignoresWriters: Bool {
    if case .former(_, .ignore) = self { true } else { false }
  }
}

extension Restore: Codable {
  private enum CodingKeys: CodingKey {
    case fallback, ifWritten
  }

  /// Reads a restore. In definitions that a version without holds stored with its runs, a restore is only a list of
  /// values.
  public init(from decoder: any Decoder) throws {
    if let values = try? decoder.singleValueContainer().decode([ColumnValue].self) {
      self = values.isEmpty ? .none : .former(fallback: values, ifWritten: .wait)
      return
    }
    let members = try decoder.container(keyedBy: CodingKeys.self)
    guard let ifWritten = try members.decodeIfPresent(IfWritten.self, forKey: .ifWritten) else {
      self = .none
      return
    }
    self = .former(
      fallback: try members.decode([ColumnValue].self, forKey: .fallback), ifWritten: ifWritten)
  }

  public func encode(to encoder: any Encoder) throws {
    var members = encoder.container(keyedBy: CodingKeys.self)
    guard case .former(let fallback, let ifWritten) = self else { return }
    try members.encode(fallback, forKey: .fallback)
    try members.encode(ifWritten, forKey: .ifWritten)
  }
}

extension Restore {
  /// The values that the definition names. Empty if it names none.
  var fallback: [ColumnValue] {
    if case .former(let fallback, _) = self { fallback } else { [] }
  }

  func renamingColumns(_ name: (String) -> String) -> Restore {
    guard case .former(let fallback, let ifWritten) = self else { return self }
    return .former(fallback: fallback.renamingColumns(name), ifWritten: ifWritten)
  }

  /// The text in a definition.
  var written: String {
    guard case .former(let fallback, let ifWritten) = self else { return "none" }
    let option = ifWritten == .ignore ? ["if_written: ignore"] : []
    let members = fallback.map(\.written) + option
    return members.isEmpty ? "former" : "{\(members.joined(separator: ", "))}"
  }
}

/// The `restore:` of a protection as the file contains it: a word, or columns with values and the option `if_written`.
struct WrittenRestore {
  static let words = ["none", "former"]
  /// In the mapping, this key is an option and not a column.
  static let option = "if_written"

  let word: Located<String>?
  let values: [Located<ColumnValue>]
  let ifWritten: Located<String>?

  /// - Returns: nil if the node is null, a list or an empty mapping. Mistakes are added to `protect.mistakes`.
  init?(_ node: Node, in protect: YAMLMap) {
    let path = protect.name("restore")
    let expected = "none, former or {column: value, …}"
    guard node.mapping != nil else {
      guard node.scalar != nil, !YAMLMap.isNull(node) else {
        protect.noteWrongType(path, node, expected)
        return nil
      }
      word = protect.string(node, name: path)
      values = []
      ifWritten = nil
      return
    }
    guard let map = YAMLMap(node, path: path, keys: .names, protect.mistakes) else { return nil }
    guard !map.entries.isEmpty else {
      protect.noteWrongType(path, node, expected)
      return nil
    }
    word = nil
    ifWritten = map.string(Self.option)
    values = map.entries.filter { $0.key.value != Self.option }.compactMap { name, node in
      ColumnValue(node, of: name.value, in: map)
        .map { Located(value: $0, line: name.line) }
    }
  }
}

extension WrittenRestore {
  /// The restore of a protection that sets these columns. Mistakes are added to `mistakes`.
  func resolved(of set: [ColumnValue], _ mistakes: Mistakes) -> Restore {
    if let word {
      switch word.value {
      case "none": return .none
      case "former": return .former(fallback: [], ifWritten: .wait)
      default:
        let meant = YAMLMap.nearest(to: word.value, among: WrittenRestore.words)
        mistakes.note(
          word.line, "unknown restore: \(word.value)",
          (meant.map { "did you mean \($0)? " } ?? "") + "write none, former or {column: value, …}")
        return .none
      }
    }
    for value in values where !set.contains(where: { $0.column == value.value.column }) {
      let isOption = YAMLMap.nearest(to: value.value.column, among: [WrittenRestore.option]) != nil
      mistakes.note(
        value.line, "restore names the column \(value.value.column), but set does not name it",
        isOption
          ? "did you mean \(WrittenRestore.option)? restore may name only columns in set"
          : "name only columns that are in set")
    }
    return .former(
      fallback: values.map(\.value),
      ifWritten: ifWritten.map { Self.ifWritten($0, mistakes) } ?? .wait)
  }

  private static func ifWritten(_ word: Located<String>, _ mistakes: Mistakes) -> Restore.IfWritten
  {
    if let ifWritten = Restore.IfWritten(rawValue: word.value) { return ifWritten }
    let meant = YAMLMap.nearest(to: word.value, among: ["wait", "ignore"])
    mistakes.note(
      word.line, "unknown if_written: \(word.value)",
      (meant.map { "did you mean \($0)? " } ?? "")
        + "write wait, or ignore to restore rows that another program has changed")
    return .wait
  }
}
