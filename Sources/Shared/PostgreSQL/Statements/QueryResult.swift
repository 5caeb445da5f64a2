internal import CLibPQ

/// The rows of one statement, whole and in memory. For more than some thousands, use COPY.
public final class QueryResult: Sendable {
  // Safe to share: a PGresult is never changed once libpq has handed it over, this object is its
  // only owner, and libpq documents the read accessors as thread-safe on such a result.
  private nonisolated(unsafe) let result: OpaquePointer
  let statement: String
  /// Where each column is. A name that several have is of no use.
  private let places: [String: Int]

  init(taking result: OpaquePointer, statement: String) {
    self.result = result
    self.statement = statement
    // The columns of a COPY have no names.
    columnNames = (0..<PQnfields(result)).map {
      PQfname(result, $0).map { String(cString: $0) } ?? ""
    }
    places = Dictionary(zip(columnNames, columnNames.indices)) { _, _ in Self.ambiguous }
  }

  private static let ambiguous = -1
  /// What more columns mean, their order does not tell a reader.
  private static let columnsByPositionMax = 4

  deinit { PQclear(result) }

  /// The number of rows that came back.
  public var count: Int { Int(PQntuples(result)) }

  /// The number of rows that an INSERT, UPDATE, DELETE, COPY, … touched.
  public var rowsAffected: Int { Int(String(cString: PQcmdTuples(result))) ?? 0 }

  /// The server's name for what it did: `INSERT 0 1`, `COMMIT`, …
  var commandTag: String { String(cString: PQcmdStatus(result)) }

  var status: ExecStatusType { PQresultStatus(result) }

  /// The server waits for rows, or is about to send them, outside the result.
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

  /// The rows, whose values are read by the names of their columns.
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

  /// - Throws: `PostgreSQLError` if there is not exactly one.
  public func onlyRow() throws -> Row {
    guard let row = try firstRow() else {
      throw PostgreSQLError(
        code: .unexpectedRowCount, message: "expected one row, got none", statement: statement)
    }
    return row
  }

  /// Every row as a tuple of the given types, column by column: of four columns at most.
  /// - Throws: `PostgreSQLError` (`.decoding`) naming the column whose value does not fit.
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
  /// - Throws: `PostgreSQLError` if there is more than one row or a value does not fit.
  public func firstRow<each Column: ColumnDecodable>(
    as types: repeat (each Column).Type
  ) throws -> (repeat each Column)? {
    try requireFewColumns()
    guard let row = try firstRow() else { return nil }
    var column = 0
    return try (repeat row.decode((each types), column: &column))
  }

  /// The only row as a tuple.
  /// - Throws: `PostgreSQLError` if there is not exactly one row or a value does not fit.
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
        message: "\(columnNames.count) columns are to be read by their positions",
        hint: "read them by their names", statement: statement)
    }
  }

  /// - Throws: `PostgreSQLError` (`.decoding`) unless one column, and one only, has the name.
  func place(of name: String) throws -> Int {
    guard let place = places[name], place != Self.ambiguous else {
      let what = places[name] == nil ? "has no column" : "has more than one column"
      throw PostgreSQLError(
        code: .decoding, message: "the result \(what) \(name)",
        hint: "it has: \(columnNames.joined(separator: ", "))", statement: statement)
    }
    return place
  }
}
