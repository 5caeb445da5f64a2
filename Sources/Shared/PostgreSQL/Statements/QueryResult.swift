internal import CLibPQ

/// The rows of one statement, whole and in memory. For more than some thousands, use COPY.
public final class QueryResult: Sendable {
  // Safe to share: a PGresult is never changed once libpq has handed it over, this object is its
  // only owner, and libpq documents the read accessors as thread-safe on such a result.
  private nonisolated(unsafe) let result: OpaquePointer
  private let statement: String

  init(taking result: OpaquePointer, statement: String) {
    self.result = result
    self.statement = statement
  }

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

  public var columnNames: [String] {
    (0..<PQnfields(result)).map { String(cString: PQfname(result, $0)) }
  }

  /// The text of a value; nil for NULL.
  public func text(row: Int, column: Int) -> String? {
    let row = Int32(row), column = Int32(column)
    guard PQgetisnull(result, row, column) == 0, let value = PQgetvalue(result, row, column) else {
      return nil
    }
    return String(cString: value)
  }

  /// Every row as a tuple of the given types, column by column.
  /// - Throws: `PostgreSQLError` (`.decoding`) naming the column whose value does not fit.
  public func rows<each Column: ColumnDecodable>(
    as types: repeat (each Column).Type
  ) throws -> [(repeat each Column)] {
    try (0..<count).map { row in
      var column = 0
      return try (repeat decode((each types), row: row, column: &column))
    }
  }

  /// The only row as a tuple; nil if there is none.
  /// - Throws: `PostgreSQLError` if there is more than one row or a value does not fit.
  public func firstRow<each Column: ColumnDecodable>(
    as types: repeat (each Column).Type
  ) throws -> (repeat each Column)? {
    guard count > 0 else { return nil }
    guard count == 1 else {
      throw PostgreSQLError(
        code: .unexpectedRowCount, message: "expected one row at most, got \(count)",
        statement: statement)
    }
    var column = 0
    return try (repeat decode((each types), row: 0, column: &column))
  }

  /// The only row as a tuple.
  /// - Throws: `PostgreSQLError` if there is not exactly one row or a value does not fit.
  public func onlyRow<each Column: ColumnDecodable>(
    as types: repeat (each Column).Type
  ) throws -> (repeat each Column) {
    guard let row = try firstRow(as: repeat each types) else {
      throw PostgreSQLError(
        code: .unexpectedRowCount, message: "expected one row, got none", statement: statement)
    }
    return row
  }

  private func decode<Column: ColumnDecodable>(
    _ type: Column.Type, row: Int, column: inout Int
  ) throws -> Column {
    defer { column += 1 }
    guard column < Int(PQnfields(result)),
      let value = Column.decode(columnText: text(row: row, column: column))
    else {
      let name = column < columnNames.count ? columnNames[column] : "#\(column + 1)"
      throw PostgreSQLError(
        code: .decoding, message: "column \(name) of row \(row + 1) is not a \(type)",
        statement: statement)
    }
    return value
  }
}
