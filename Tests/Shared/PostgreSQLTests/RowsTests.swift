import PostgreSQL
import TestSupport
import Testing

@Suite struct RowsTests {
  /// Runs a query and returns the error that `read` throws on its result.
  private static func failure<R>(
    of sql: SQL, _ read: @Sendable (QueryResult) throws -> R
  ) async throws -> PostgreSQLError? {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let result = try await connection.query(sql)
        do {
          _ = try read(result)
          return nil
        } catch let error as PostgreSQLError {
          return error
        }
      }
    }
  }

  @Test func rowsAreReadAsTuples() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let result = try await connection.query(
          """
          SELECT n AS a, n % 2 = 0 AS b, nullif(n, 2)::text AS c FROM generate_series(1, 3) AS n ORDER BY n
          """
        )
        let rows = try result.rows(as: Int.self, Bool.self, String?.self)
        #expect(rows.map(\.0) == [1, 2, 3])
        #expect(rows.map(\.1) == [false, true, false])
        #expect(rows.map(\.2) == ["1", nil, "3"])
        #expect(result.columnNames == ["a", "b", "c"])
        #expect(result.count == 3)
        #expect(result.text(row: 1, column: 2) == nil)
      }
    }
  }

  @Test func nullDiffersFromAnEmptyStringAndFromEmptyBytes() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let row = try await connection.query("SELECT NULL::text, ''::text, ''::bytea, NULL::bytea")
          .onlyRow(as: String?.self, String?.self, [UInt8]?.self, [UInt8]?.self)
        #expect(row == (nil, "", [], nil))
      }
    }
  }

  @Test func theErrorNamesTheColumnAndRowOfAValueOfAnotherType() async throws {
    let text = try await Self.failure(of: "SELECT 1 AS good, 'x' AS bad") {
      try $0.onlyRow(as: Int.self, Int.self)
    }
    #expect(text?.code == .decoding)
    #expect(text?.message == "column bad of row 1 is not of type Int")
    #expect(text?.statement == "SELECT 1 AS good, 'x' AS bad")

    let null = try await Self.failure(
      of: "SELECT nullif(n, 2) AS n FROM generate_series(1, 3) AS n"
    ) {
      try $0.rows(as: Int.self)
    }
    #expect(null?.code == .decoding)
    #expect(null?.message == "column n of row 2 is not of type Int")

    let tooLarge = try await Self.failure(of: "SELECT 9223372036854775808 AS n") {
      try $0.onlyRow(as: Int64?.self)
    }
    #expect(tooLarge?.code == .decoding)
    #expect(tooLarge?.message.hasPrefix("column n of row 1 is not of type Optional") == true)

    let missing = try await Self.failure(of: "SELECT 1 AS a") {
      try $0.onlyRow(as: Int.self, Int.self)
    }
    #expect(missing?.code == .decoding)
    #expect(missing?.message == "column #2 of row 1 is not of type Int")

    let flag = try await Self.failure(of: "SELECT 'true'::text AS b") {
      try $0.onlyRow(as: Bool.self)
    }
    #expect(flag?.message == "column b of row 1 is not of type Bool")

    let bytes = try await Self.failure(of: #"SELECT '\x0g'::text AS b"#) {
      try $0.onlyRow(as: [UInt8].self)
    }
    #expect(bytes?.code == .decoding)
  }

  @Test func firstRowAllowsNoRowAndOnlyRowDoesNot() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let none = try await connection.query("SELECT 1 AS n WHERE false")
        let nothing: Int? = try none.firstRow(as: Int.self)
        #expect(nothing == nil)
        #expect(try none.rows(as: Int.self).isEmpty)
        let one = try await connection.query("SELECT 1 AS n")
        let something: Int? = try one.firstRow(as: Int.self)
        #expect(something == 1)
      }
    }
    let none = try await Self.failure(of: "SELECT 1 WHERE false") { try $0.onlyRow(as: Int.self) }
    #expect(none?.code == .unexpectedRowCount)
    #expect(none?.message == "expected one row, got none")
    for read in [
      { @Sendable (result: QueryResult) in try result.firstRow(as: Int.self) as Int? },
      { @Sendable (result: QueryResult) in try result.onlyRow(as: Int.self) as Int? },
    ] {
      let two = try await Self.failure(of: "SELECT 1 UNION ALL SELECT 2", read)
      #expect(two?.code == .unexpectedRowCount)
      #expect(two?.message == "expected one row at most, got 2")
    }
  }

  @Test func affectedRowsAreCounted() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        #expect(try await connection.execute("CREATE TABLE t (x int)") == 0)
        let inserted = try await connection.execute(
          "INSERT INTO t SELECT generate_series(1, \(1234))")
        #expect(inserted == 1234)
        #expect(try await connection.execute("UPDATE t SET x = -x WHERE x <= 7") == 7)
        #expect(
          try await connection.query("DELETE FROM t WHERE x < 0 RETURNING x").rowsAffected == 7)
        try await connection.executeOne("DELETE FROM t WHERE x = 8")
        for (sql, count) in [
          ("DELETE FROM t WHERE x = 8", 0), ("UPDATE t SET x = 0 WHERE x < 11", 2),
        ] {
          do {
            try await connection.executeOne(SQL(trusted: sql))
            Issue.record("\(count) rows were accepted as one")
          } catch let error as PostgreSQLError {
            #expect(error.code == .unexpectedRowCount)
            #expect(error.message == "the statement affected \(count) rows instead of one")
            #expect(error.statement == sql)
          }
        }
      }
    }
  }

  @Test func anEmptyStatementDoesNothing() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        #expect(try await connection.query("").count == 0)
        #expect(try await connection.execute("-- a comment") == 0)
        try await connection.runScript("")
        try await connection.runScript(" ; ; ")
      }
    }
  }
}
