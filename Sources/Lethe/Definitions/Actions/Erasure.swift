package import DefinitionFiles
package import SQLText
internal import Yams

/// The values to remove from a row that is kept.
public struct Erasure: Sendable, Hashable, Codable {
  /// Columns and their new values.
  public let set: [ColumnValue]
  /// JSON columns, and the paths to remove from their values.
  public let cut: [JSONCut]

  public init(set: [ColumnValue], cut: [JSONCut] = []) {
    self.set = set
    self.cut = cut
  }

  /// Reads an erasure. In definitions that an older version of Lethe stored with its runs, an erasure is only a list of
  /// columns.
  public init(from decoder: any Decoder) throws {
    if let columns = try? decoder.singleValueContainer().decode([String].self) {
      self.init(set: columns.map { ColumnValue(column: $0, value: nil) })
    } else {
      let members = try decoder.container(keyedBy: CodingKeys.self)
      self.init(
        set: try members.decode([ColumnValue].self, forKey: .set),
        cut: try members.decode([JSONCut].self, forKey: .cut))
    }
  }
}

/// The paths to remove from a JSON column. Each path is a list of keys, with the outermost key first.
public struct JSONCut: Sendable, Hashable, Codable {
  public let column: String
  public let paths: [[String]]

  public init(column: String, paths: [[String]]) {
    self.column = column
    self.paths = paths
  }
}

extension Erasure {
  var columns: [String] { self.set.map(\.column) + cut.map(\.column) }

  func renamingColumns(_ name: (String) -> String) -> Erasure {
    Erasure(
      set: set.renamingColumns(name),
      cut: cut.map { JSONCut(column: name($0.column), paths: $0.paths) })
  }

  /// The text in a definition.
  var written: String {
    if cut.isEmpty, self.set.allSatisfy({ $0.value == nil }) {
      return "[\(set.map(\.column).joined(separator: ", "))]"
    }
    let cuts = cut.map { cut in
      "\(cut.column): [\(cut.paths.map { $0.joined(separator: ".") }.joined(separator: ", "))]"
    }
    return "{\((set.map(\.written) + cuts).joined(separator: ", "))}"
  }

  var requirements: [ActionRequirement] {
    [.update(columns)] + set.map { .value($0) } + cut.map { .json($0.column) }
  }

  func assignments(_ row: some RowSQL) -> [SQL] {
    set.map { row.assignment($0) } + cut.map { row.assignment($0) }
  }

  func needsChange(_ row: some RowSQL) -> SQL {
    .any(set.map { row.differs($0) } + cut.map { row.has($0) })
  }
}

/// An action that removes values from rows that are kept.
package protocol ErasingAction: RowAction {
  var content: Erasure { get }
  init(_ content: Erasure)
}

extension ErasingAction {
  package static var missingMappingError: (message: String, remedy: String)? {
    ("\(word) names no columns", "write {\(word): [column, …]}")
  }

  package static func read(_ map: YAMLMap) -> Self? { Erasure(map, word).map { Self($0) } }

  package var written: String { "{\(Self.word): \(content.written)}" }
  package var columns: [String] { content.columns }

  package func renamingColumns(_ name: (String) -> String) -> Self {
    Self(content.renamingColumns(name))
  }

  package init(stored container: KeyedDecodingContainer<StoredKey>) throws {
    self.init(try container.decode(Erasure.self, forKey: "_0"))
  }

  package func encode(into container: inout KeyedEncodingContainer<StoredKey>) throws {
    try container.encode(content, forKey: "_0")
  }

  package static var isRedacting: Bool { true }
  package var erasure: Erasure? { content }
  package var requirements: [ActionRequirement] { content.requirements }
  package var operation: RowOperation? { .update }
  package var columnsSet: [String] { content.columns }
  package func assignments(_ row: some RowSQL) -> [SQL] { content.assignments(row) }
  package func needsChange(_ row: some RowSQL) -> SQL? { content.needsChange(row) }
}

// MARK: The definition

extension Erasure {
  /// Reads a list of columns that become NULL, or a mapping. In the mapping, a column has null, a value, or the paths
  /// to remove from its JSON.
  init?(_ action: YAMLMap, _ word: String) {
    guard let node = action.requiredNode(word) else { return nil }
    let path = action.name(word)
    let line = node.mark?.line ?? action.line
    guard node.mapping != nil else {
      guard let names = action.strings(node, name: path) else { return nil }
      self.init(set: names.value.map { ColumnValue(column: $0, value: nil) })
      noteDuplicates(line, action.mistakes)
      return
    }
    guard let columns = YAMLMap(node, path: path, keys: .names, action.mistakes) else { return nil }
    var set: [ColumnValue?] = []
    var cut: [JSONCut?] = []
    for (name, node) in columns.entries {
      if node.sequence != nil {
        cut.append(Self.cut(node, of: name.value, in: columns))
      } else {
        set.append(ColumnValue(node, of: name.value, in: columns))
      }
    }
    guard !set.isEmpty || !cut.isEmpty else {
      columns.noteWrongType(path, node, "a list of columns, or {column: value, …}")
      return nil
    }
    guard !set.contains(nil), !cut.contains(nil) else { return nil }
    self.init(set: set.compactMap { $0 }, cut: cut.compactMap { $0 })
    noteDuplicates(line, action.mistakes)
  }

  private func noteDuplicates(_ line: Int, _ mistakes: Mistakes) {
    for twice in Set(columns).sorted() where columns.count(where: { $0 == twice }) > 1 {
      mistakes.note(line, "the column \(twice) is named twice", "name each column once")
    }
  }

  private static func cut(_ node: Node, of column: String, in map: YAMLMap) -> JSONCut? {
    guard let paths = node.sequence, !paths.isEmpty else {
      return map.wrongType(map.name(column), node, "a list of paths")
    }
    let read = paths.map { path($0, of: column, in: map) }
    return read.contains(nil) ? nil : JSONCut(column: column, paths: read.compactMap { $0 })
  }

  /// Reads a path: `place`, `geo.coordinates`, or `[a key, another.key]` if a key contains a dot.
  private static func path(_ node: Node, of column: String, in map: YAMLMap) -> [String]? {
    let name = map.name(column)
    if node.sequence != nil { return map.strings(node, name: name)?.value }
    guard let text = map.string(node, name: name)?.value else { return nil }
    let keys = text.split(separator: ".", omittingEmptySubsequences: false)
    guard keys.allSatisfy({ !$0.isEmpty }) else {
      return map.wrongType(name, node, "a path such as geo.coordinates")
    }
    return keys.map(String.init)
  }
}
