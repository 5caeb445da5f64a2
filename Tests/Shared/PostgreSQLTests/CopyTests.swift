import PostgreSQL
import TestSupport
import Testing

@Suite struct CopyTests {
  private struct Stop: Error {}

  private static func withConnection(
    _ script: SQL = "", _ body: @Sendable (Connection, TestDatabase) async throws -> Void
  ) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(script)
        try await body(connection, database)
      }
    }
  }

  private static func expectUsable(_ session: some Session) async throws {
    #expect(try await session.query("SELECT 1").onlyRow(as: Int.self) == 1)
  }

  private static func count(_ session: some Session) async throws -> Int {
    try await session.query("SELECT count(*) FROM t").onlyRow(as: Int.self)
  }

  /// The ID of a connection's server process. Another connection can observe this process.
  private static func process(_ session: some Session) async throws -> Int64 {
    try await session.query("SELECT pg_backend_pid()").onlyRow(as: Int64.self)
  }

  // MARK: COPY TO

  @Test func aMillionRowsArriveCompletelyAndInOrder() async throws {
    try await Self.withConnection { connection, _ throws in
      let sql: SQL = "COPY (SELECT n FROM generate_series(1, 1000000) AS n) TO STDOUT"
      let blocks = try await connection.withCopyOut(sql) { rows in
        var expected = 1
        var blocks = 0
        for try await block in rows {
          blocks += 1
          #expect(block.last == 0x0A)
          // A block contains only whole rows, so it can be read alone.
          var number = 0
          for byte in block {
            if byte == 0x0A {
              if number != expected { throw Stop() }
              expected += 1
              number = 0
            } else {
              number = number * 10 + Int(byte &- 0x30)
            }
          }
        }
        #expect(expected == 1_000_001)
        return blocks
      }
      #expect(blocks > 10)
      try await Self.expectUsable(connection)
    }
  }

  @Test func aCopyOfNothingHasNoBlock() async throws {
    try await Self.withConnection { connection, _ throws in
      try await connection.withCopyOut("COPY (SELECT 1 WHERE false) TO STDOUT") { rows in
        for try await block in rows { Issue.record("a block of \(block.count) bytes") }
      }
      try await Self.expectUsable(connection)
    }
  }

  @Test(arguments: [0, 1, 2, 100_000])
  func bigintRowsHaveTheServersValues(count: Int) async throws {
    try await Self.withConnection { connection, _ throws in
      let values: SQL = """
        SELECT CASE WHEN n = 1 THEN -9223372036854775808 WHEN n = 2 THEN 9223372036854775807
                    ELSE (n - 50) * 18446744073709 END
        FROM generate_series(1, \(literal: count)) AS n ORDER BY n
        """
      let expected = try await connection.query(values).rows(as: Int64.self)
      let copied = try await connection.withCopyOut("COPY (\(values)) TO STDOUT (FORMAT binary)") {
        var rows = BigintRows()
        var copied: [Int64] = []
        for try await block in $0 { copied += try rows.values(in: block) }
        return copied
      }
      #expect(copied == expected)
      #expect(copied.count == count)
    }
  }

  @Test(arguments: [
    "SELECT 1", "SELECT 1::bigint, 2::bigint", "SELECT NULL::bigint", "SELECT '1234567'::text",
    "SELECT n FROM unnest(ARRAY[1, NULL]::bigint[]) AS n", "SELECT a FROM nothing",
    "SELECT 1::smallint",
  ])
  func otherRowsAreNotReadAsBigint(sql: String) async throws {
    try await Self.withConnection("CREATE TABLE nothing (a bigint)") { connection, _ throws in
      let copy: SQL = "COPY (\(trusted: sql)) TO STDOUT (FORMAT binary)"
      let values = try? await connection.withCopyOut(copy) {
        var rows = BigintRows()
        var values: [Int64] = []
        for try await block in $0 { values += try rows.values(in: block) }
        return values
      }
      #expect(values == (sql.hasSuffix("nothing") ? [] : nil))
      // The same rows as text have no header.
      #expect(throws: PostgreSQLError.self) {
        var rows = BigintRows()
        _ = try rows.values(in: Array("1\n".utf8))
      }
    }
  }

  /// The server sends only as many bytes ahead of the reader as the socket's buffers can contain.
  @Test func theServerWaitsForTheReader() async throws {
    try await Self.withConnection("CREATE SEQUENCE s") { connection, database throws in
      let process = try await Self.process(connection)
      let sql: SQL =
        "COPY (SELECT nextval('s'), repeat('x', 1000) FROM generate_series(1, 200000)) TO STDOUT"
      try await connection.withCopyOut(sql) { rows in
        var iterator = rows.makeAsyncIterator()
        _ = try await iterator.next()
        try await database.withConnection { observer in
          try await Self.wait(
            for: "state = 'active' AND wait_event = 'ClientWrite'", process, observer)
          let sent = try await observer.query("SELECT last_value FROM s").onlyRow(as: Int.self)
          #expect(sent < 20_000)
        }
        var bytes = 0
        while let block = try await iterator.next() { bytes += block.count }
        #expect(bytes > 190_000_000)
      }
    }
  }

  @Test(arguments: [false, true])
  func stoppingEarlyCancelsTheStatement(throwing: Bool) async throws {
    try await Self.withConnection { connection, database throws in
      let process = try await Self.process(connection)
      let sql: SQL = "COPY (SELECT generate_series(1, 100000000000)) TO STDOUT"
      do {
        try await connection.withCopyOut(sql) { rows in
          for try await _ in rows { if throwing { throw Stop() } else { return } }
        }
        #expect(!throwing)
      } catch is Stop {
        #expect(throwing)
      }
      try await database.withConnection { observer in
        let state = try await observer.query(
          "SELECT state FROM pg_stat_activity WHERE pid = \(process)"
        ).onlyRow(as: String.self)
        #expect(state == "idle")
      }
      try await Self.expectUsable(connection)
    }
  }

  @Test func aCopyThatFailsAfterManyRowsThrows() async throws {
    try await Self.withConnection { connection, _ throws in
      let sql: SQL =
        """
        COPY (SELECT repeat('x', 100), 1 / (500000 - n) FROM generate_series(1, 1000000) AS n) TO STDOUT
        """
      var bytes = 0
      do {
        bytes = try await connection.withCopyOut(sql) { rows in
          var bytes = 0
          do {
            for try await block in rows { bytes += block.count }
          } catch {
            #expect(bytes > 40_000_000)
            throw error
          }
          return bytes
        }
        Issue.record("\(bytes) bytes were accepted as the complete result")
      } catch let error as PostgreSQLError {
        #expect(error.state?.rawValue == "22012")
      }
      try await Self.expectUsable(connection)
    }
  }

  @Test func aCopyIsNotCompleteIfItsSessionIsTerminated() async throws {
    try await Self.withConnection { connection, database throws in
      let process = try await Self.process(connection)
      do {
        try await connection.withCopyOut(
          "COPY (SELECT generate_series(1, 100000000000)) TO STDOUT"
        ) { rows in
          var isFirst = true
          for try await _ in rows {
            guard isFirst else { continue }
            isFirst = false
            try await database.withConnection {
              _ = try await $0.query("SELECT pg_terminate_backend(\(process)::int)")
            }
          }
        }
        Issue.record("an incomplete stream was accepted as complete")
      } catch let error as PostgreSQLError {
        #expect(error.code == .connectionLost)
        #expect(error.isTemporary)
      }
    }
  }

  @Test func statementsOtherThanTheMatchingCOPYAreRefused() async throws {
    try await Self.withConnection("CREATE TABLE t (x int)") { connection, _ throws in
      for sql in ["SELECT 1", "COPY t FROM STDIN"] {
        await #expect {
          try await connection.withCopyOut(SQL(trusted: sql)) { _ in }
        } throws: {
          ($0 as? PostgreSQLError)?.code == .misuse
        }
      }
      for sql in ["SELECT 1", "COPY t TO STDOUT"] {
        await #expect {
          try await connection.withCopyIn(SQL(trusted: sql)) { _ in }
        } throws: {
          ($0 as? PostgreSQLError)?.code == .misuse
        }
      }
      await #expect {
        try await connection.withCopyOut("COPY nowhere TO STDOUT") { _ in }
      } throws: {
        ($0 as? PostgreSQLError)?.state == .undefinedTable
      }
      try await Self.expectUsable(connection)
    }
  }

  // MARK: COPY FROM

  @Test func theDataOfACopyCanBeSplitAtAnyByte() async throws {
    try await Self.withConnection("CREATE TABLE t (x int, y text)") { connection, _ throws in
      let text = Array((1...1000).map { "\($0)\té \($0)\n" }.joined().utf8)
      let rows = try await connection.withCopyIn("COPY t FROM STDIN") { copy in
        for start in stride(from: 0, to: text.count, by: 7) {
          try await copy.write(Array(text[start..<min(start + 7, text.count)]))
        }
        try await copy.write([])
      }
      #expect(rows == 1000)
      let sums = try await connection.query(
        "SELECT count(*), sum(x), bool_and(y = 'é ' || x) FROM t"
      ).onlyRow(as: Int.self, Int.self, Bool.self)
      #expect(sums == (1000, 500_500, true))
    }
  }

  @Test func anEmptyCopyInsertsNoRows() async throws {
    try await Self.withConnection("CREATE TABLE t (x int)") { connection, _ throws in
      #expect(try await connection.withCopyIn("COPY t FROM STDIN") { _ in } == 0)
      let binary = try await connection.withCopyIn("COPY t FROM STDIN (FORMAT binary)") { copy in
        var rows = BinaryRows()
        try await copy.write(rows.takeLast())
      }
      #expect(binary == 0)
    }
  }

  @Test(arguments: [false, true])
  func ifTheBodyThrowsNoRowsAreKept(inTransaction: Bool) async throws {
    try await Self.withConnection("CREATE TABLE t (x int)") { connection, _ throws in
      @Sendable func copy(_ session: some Session) async throws {
        try await session.withCopyIn("COPY t FROM STDIN") { copy in
          for _ in 0..<1000 { try await copy.write(Array("1\n".utf8)) }
          throw Stop()
        }
      }
      await #expect(throws: Stop.self) {
        if inTransaction {
          try await connection.withTransaction { try await copy($0) }
        } else {
          try await copy(connection)
        }
      }
      try await Self.expectUsable(connection)
      #expect(try await Self.count(connection) == 0)
    }
  }

  @Test func aRowThatTheServerRefusesFailsTheWholeCopy() async throws {
    try await Self.withConnection("CREATE TABLE t (x int PRIMARY KEY)") { connection, _ throws in
      for (text, state) in [("1\nx\n", "22P02"), ("1\n1\n", "23505"), ("1\t2\n", "22P04")] {
        do {
          try await connection.withCopyIn("COPY t FROM STDIN") { copy in
            try await copy.write(Array(text.utf8))
            for row in 10..<50_000 { try await copy.write(Array("\(row)\n".utf8)) }
          }
          Issue.record("\(text.debugDescription) was accepted")
        } catch let error as PostgreSQLError {
          #expect(error.state?.rawValue == state)
        }
        #expect(try await Self.count(connection) == 0)
      }
    }
  }

  @Test func aTransactionContinuesAfterACopy() async throws {
    try await Self.withConnection("CREATE TABLE t (x int)") { connection, _ throws in
      try await connection.withTransaction { transaction in
        try await transaction.withCopyIn("COPY t FROM STDIN") { copy in
          try await copy.write(Array("1\n2\n".utf8))
          // During the COPY, the enclosing transaction cannot be used.
          await #expect {
            try await transaction.query("SELECT 1")
          } throws: {
            ($0 as? PostgreSQLError)?.code == .busy
          }
        }
        #expect(try await Self.count(transaction) == 2)
        let text = try await transaction.withCopyOut("COPY t TO STDOUT") { rows in
          var text: [UInt8] = []
          for try await block in rows { text += block }
          return text
        }
        #expect(text == Array("1\n2\n".utf8))
        try await transaction.execute("INSERT INTO t VALUES (3)")
        await #expect {
          try await connection.query("SELECT 1")
        } throws: {
          ($0 as? PostgreSQLError)?.code == .busy
        }
      }
      #expect(try await Self.count(connection) == 3)
    }
  }

  @Test func aFinishedCopyCannotBeUsed() async throws {
    try await Self.withConnection("CREATE TABLE t (x int)") { connection, _ throws in
      let copy = try await connection.beginCopyIn("COPY t FROM STDIN")
      try await copy.write(Array("1\n".utf8))
      #expect(try await copy.finish() == 1)
      await #expect {
        try await copy.write(Array("2\n".utf8))
      } throws: {
        ($0 as? PostgreSQLError)?.code == .busy
      }
      await copy.abandon()
      #expect(try await Self.count(connection) == 1)
    }
  }

  /// Polls the server until the condition is true for a process.
  private static func wait(
    for condition: String, _ process: Int64, _ observer: Connection
  ) async throws {
    while try await observer.query(
      "SELECT count(*) FROM pg_stat_activity WHERE pid = \(process) AND \(trusted: condition)"
    ).onlyRow(as: Int.self) == 0 { try await pollingPause() }
  }
}
