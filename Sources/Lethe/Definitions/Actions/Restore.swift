internal import DefinitionFiles
internal import Yams

/// The `restore:` of a protection: a word, or columns with values and what to do about a row that
/// somebody else has written.
struct WrittenRestore {
  static let words = ["none", "former"]
  /// In the mapping it is an option, and no column.
  static let option = "if_written"

  let word: Located<String>?
  let values: [Located<ColumnValue>]
  let ifWritten: Located<String>?

  /// - Returns: nil if it is none, which is noted.
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
      WrittenAction.value(node, of: name.value, in: map)
        .map { Located(value: $0, line: name.line) }
    }
  }
}

extension Resolver {
  /// What a protection goes back to; without a word of the definition's, to nothing.
  func restore(_ written: WrittenRestore?, of set: [ColumnValue]) -> Restore {
    guard let written else { return .none }
    if let word = written.word {
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
    for value in written.values where !set.contains(where: { $0.column == value.value.column }) {
      let isOption = YAMLMap.nearest(to: value.value.column, among: [WrittenRestore.option]) != nil
      mistakes.note(
        value.line, "restore names the column \(value.value.column), which set does not",
        isOption
          ? "did you mean \(WrittenRestore.option)? restore what is set, nothing else"
          : "restore what is set, nothing else")
    }
    return .former(
      fallback: written.values.map(\.value), ifWritten: written.ifWritten.map(ifWritten) ?? .wait)
  }

  private func ifWritten(_ word: Located<String>) -> Restore.IfWritten {
    if let ifWritten = Restore.IfWritten(rawValue: word.value) { return ifWritten }
    let meant = YAMLMap.nearest(to: word.value, among: ["wait", "ignore"])
    mistakes.note(
      word.line, "unknown if_written: \(word.value)",
      (meant.map { "did you mean \($0)? " } ?? "")
        + "write wait, or ignore to open rows that somebody else has written since")
    return .wait
  }
}
