/// One row of a statement's result.
public struct Row: Sendable {
  let result: QueryResult
  let index: Int

  /// The value of the named column, as the type that the context requires.
  public subscript<Value: ColumnDecodable>(_ name: String) -> Value {
    get throws { try decode(Value.self, name) }
  }

  /// - Throws: `PostgreSQLError` (`.decoding`) unless exactly one column has the name and its value has the type. The
  ///   error names the column.
  public func decode<Value: ColumnDecodable>(_ type: Value.Type, _ name: String) throws -> Value {
    try decode(type, at: try result.index(of: name), named: name)
  }

  func decode<Value: ColumnDecodable>(_ type: Value.Type, column: inout Int) throws -> Value {
    defer { column += 1 }
    let names = result.columnNames
    return try decode(
      type, at: column, named: column < names.count ? names[column] : "#\(column + 1)")
  }

  private func decode<Value: ColumnDecodable>(
    _ type: Value.Type, at column: Int, named name: String
  ) throws -> Value {
    guard column < result.columnNames.count,
      let value = Value.decode(columnText: result.text(row: index, column: column))
    else {
      throw PostgreSQLError(
        code: .decoding, message: "column \(name) of row \(index + 1) is not of type \(type)",
        statement: result.statement)
    }
    return value
  }
}
