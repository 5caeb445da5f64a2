internal import CLibPQ

/// The rows of one statement, all in memory. For more than a few thousand rows, use COPY.
public final class QueryResult: Sendable {
  // Safe to share: libpq does not change a PGresult after returning it, this object is its only owner, and libpq
  // documents the read accessors as thread-safe.
  private nonisolated(unsafe) let result: OpaquePointer
  let statement: String
  /// The index of each column by name; `ambiguous` if several columns have the name.
  private let columnIndexes: [String: Int]

  init(taking result: OpaquePointer, statement: String) {
    self.result = result
    self.statement = statement
    // The columns of a COPY have no names.
    columnNames = (0..<PQnfields(result)).map {
      PQfname(result, $0).map { String(cString: $0) } ?? ""
    }
    columnIndexes = Dictionary(zip(columnNames, columnNames.indices)) { _, _ in Self.ambiguous }
  }

  private static let ambiguous = -1
  /// Code that reads many columns by position is hard to understand. So a result with more columns than this must be
  /// read by column name.
  private static let columnsByPositionMax = 4

  deinit { PQclear(result) }

  /// The number of returned rows.
  public var count: Int { Int(PQntuples(result)) }

  /// The number of rows that an INSERT, UPDATE, DELETE, COPY, … affected.
  public var rowsAffected: Int { Int(String(cString: PQcmdTuples(result))) ?? 0 }

  /// The server's command tag: `INSERT 0 1`, `COMMIT`, …
  var commandTag: String { String(cString: PQcmdStatus(result)) }

  var status: ExecStatusType { PQresultStatus(result) }

  /// Whether the statement began a COPY from or to the client.
  var isCopy: Bool { [PGRES_COPY_IN, PGRES_COPY_OUT].contains(status) }

  public let columnNames: [String]

  /// The text of a value; nil for NULL.
  public func text(row: Int, column: Int) -> String? {
    let row = Int32(row), column = Int32(column)
    guard PQgetisnull(result, row, column) == 0, let value = PQgetvalue(result, row, column) else {
      return nil
    }
    return String(cString: value)
  }

  /// The rows. Their values are read by column name.
  public var rows: [Row] { (0..<count).map { Row(result: self, index: $0) } }

  /// The only row; nil if there is none.
  /// - Throws: `PostgreSQLError` if there is more than one.
  public func firstRow() throws -> Row? {
    guard count <= 1 else {
      throw PostgreSQLError(
        code: .unexpectedRowCount, message: "expected one row at most, got \(count)",
        statement: statement)
    }
    return rows.first
  }

  /// - Throws: `PostgreSQLError` unless there is exactly one row.
  public func onlyRow() throws -> Row {
    guard let row = try firstRow() else {
      throw PostgreSQLError(
        code: .unexpectedRowCount, message: "expected one row, got none", statement: statement)
    }
    return row
  }

  /// Decodes every row into a tuple of the given types, by column position. The result can have at most four columns.
  /// - Throws: `PostgreSQLError` (`.decoding`) if a value has another type. The error names the column.
  public func rows<each Column: ColumnDecodable>(
    as types: repeat (each Column).Type
  ) throws -> [(repeat each Column)] {
    try requireFewColumns()
    return try rows.map { row in
      var column = 0
      return try (repeat row.decode((each types), column: &column))
    }
  }

  /// The only row as a tuple; nil if there is none.
  /// - Throws: `PostgreSQLError` if there is more than one row or a value has the wrong type.
  public func firstRow<each Column: ColumnDecodable>(
    as types: repeat (each Column).Type
  ) throws -> (repeat each Column)? {
    try requireFewColumns()
    guard let row = try firstRow() else { return nil }
    var column = 0
    return try (repeat row.decode((each types), column: &column))
  }

  /// The only row as a tuple.
  /// - Throws: `PostgreSQLError` unless there is exactly one row and all values have the right type.
  public func onlyRow<each Column: ColumnDecodable>(
    as types: repeat (each Column).Type
  ) throws -> (repeat each Column) {
    try requireFewColumns()
    let row = try onlyRow()
    var column = 0
    return try (repeat row.decode((each types), column: &column))
  }

  private func requireFewColumns() throws {
    guard columnNames.count <= Self.columnsByPositionMax else {
      throw PostgreSQLError(
        code: .misuse,
        message: "\(columnNames.count) columns are too many to read by position",
        hint: "read them by name", statement: statement)
    }
  }

  /// - Throws: `PostgreSQLError` (`.decoding`) unless exactly one column has the name.
  func index(of name: String) throws -> Int {
    guard let index = columnIndexes[name], index != Self.ambiguous else {
      let what = columnIndexes[name] == nil ? "has no column" : "has more than one column"
      throw PostgreSQLError(
        code: .decoding, message: "the result \(what) \(name)",
        hint: columnNames.isEmpty
          ? "the result has no columns" : "its columns are \(columnNames.joined(separator: ", "))",
        statement: statement)
    }
    return index
  }
}
