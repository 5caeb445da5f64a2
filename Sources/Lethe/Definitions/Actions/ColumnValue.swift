internal import DefinitionFiles
internal import Yams

/// A column, and the text of the value that it is set to. Nil is NULL. PostgreSQL converts the text to the
/// column's type.
public struct ColumnValue: Sendable, Hashable, Codable {
  public let column: String
  public let value: String?

  public init(column: String, value: String?) {
    self.column = column
    self.value = value
  }
}

extension ColumnValue {
  /// Reads `column: value` of a definition. `null` is NULL.
  /// - Returns: nil if the node is not a single value. The mistake is then in `map.mistakes`.
  init?(_ node: Node, of column: String, in map: YAMLMap) {
    if YAMLMap.isNull(node) {
      self.init(column: column, value: nil)
      return
    }
    guard let scalar = node.scalar else {
      map.noteWrongType(map.name(column), node, "a single value")
      return nil
    }
    self.init(column: column, value: scalar.string)
  }

  /// Reads the columns and values of a required key.
  /// - Returns: nil if the key is missing, or if its value is not valid. The mistake is then in `map.mistakes`.
  static func all(_ map: YAMLMap, _ key: String) -> [ColumnValue]? {
    guard let node = map.requiredNode(key),
      let columns = YAMLMap(node, path: map.name(key), keys: .names, map.mistakes)
    else { return nil }
    guard !columns.entries.isEmpty else {
      return columns.wrongType(columns.path, node, "{column: value, …}")
    }
    let values = columns.entries.map { ColumnValue($1, of: $0.value, in: columns) }
    return values.contains(nil) ? nil : values.compactMap { $0 }
  }

  /// The text in a definition.
  var written: String {
    guard let value else { return "\(column): null" }
    return "\(column): \(value.isEmpty || value == "null" ? "'\(value)'" : value)"
  }

  static func written(_ values: [ColumnValue]) -> String {
    "{\(values.map(\.written).joined(separator: ", "))}"
  }
}

extension [ColumnValue] {
  func renamingColumns(_ name: (String) -> String) -> [ColumnValue] {
    map { ColumnValue(column: name($0.column), value: $0.value) }
  }
}
