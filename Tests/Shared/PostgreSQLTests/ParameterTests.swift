import Foundation
import PostgreSQL
import TestSupport
import Testing

@Suite struct ParameterTests {
  private static let texts = [
    "", " ", "plain", "'quoted'", "\"double\"", "back\\slash", "a,b", "{a,b}", "NULL", "null",
    "\\N",
    "line\nfeed\r\n\ttab", "é e\u{301} 😀 👨‍👩‍👧 \u{202E}rtl \u{FFFD}", "$1 $$ ?", "\u{1}\u{7F}",
    "'; DROP TABLE x; --",
  ]

  @Test(arguments: texts)
  func aTextRoundTrips(text: String) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let row = try await connection.query(
          "SELECT \(text)::text, octet_length(\(text)::text)"
        ).onlyRow(as: String.self, Int.self)
        #expect(Array(row.0.utf8) == Array(text.utf8))
        #expect(row.1 == text.utf8.count)
      }
    }
  }

  @Test func arraysRoundTrip() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let elements = try await connection.query(
          "SELECT x FROM unnest(\(Self.texts)::text[]) WITH ORDINALITY AS t (x, n) ORDER BY n"
        ).rows(as: String.self)
        #expect(elements.map { Array($0.utf8) } == Self.texts.map { Array($0.utf8) })

        let numbers: [Int64] = [.min, -1, 0, 1, 9_007_199_254_740_993, .max]
        let returned = try await connection.query(
          "SELECT x FROM unnest(\(numbers)::bigint[]) WITH ORDINALITY AS t (x, n) ORDER BY n"
        ).rows(as: Int64.self)
        #expect(returned == numbers)

        let counts = try await connection.query(
          "SELECT cardinality(\([String]())::text[]), cardinality(\([Int64]())::bigint[])"
        ).onlyRow(as: Int.self, Int.self)
        #expect(counts == (0, 0))
      }
    }
  }

  @Test(
    arguments: [
      [], [0], [0, 0, 0], [1, 0, 2], Array("\\x41'".utf8), [0xFF, 0xFE, 0x80], (0...255).map { $0 },
    ] as [[UInt8]])
  func bytesRoundTrip(bytes: [UInt8]) async throws {
    try await Self.roundTrip(bytes)
  }

  @Test func manyBytesRoundTrip() async throws {
    try await Self.roundTrip([UInt8](repeating: 0, count: 100_000))
  }

  private static func roundTrip(_ bytes: [UInt8]) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let row = try await connection.query(
          "SELECT \(bytes)::bytea, octet_length(\(bytes)::bytea), \(bytes)::bytea IS NULL"
        ).onlyRow(as: [UInt8].self, Int.self, Bool.self)
        let isEqual = row.0 == bytes
        #expect(isEqual)
        #expect(row.1 == bytes.count)
        #expect(row.2 == false)
      }
    }
  }

  @Test(arguments: [Int64.min, -1, 0, 1, 9_007_199_254_740_993, .max])
  func anIntegerRoundTrips(number: Int64) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let row = try await connection.query(
          "SELECT \(number)::bigint, \(number)::bigint::text, \(literal: number)::bigint::text"
        ).onlyRow(as: Int64.self, String.self, String.self)
        #expect(row == (number, "\(number)", "\(number)"))
      }
    }
  }

  @Test(
    arguments: [
      0, -0.0, 0.1, 1.0 / 3, -1e300, .leastNonzeroMagnitude, .greatestFiniteMagnitude, .infinity,
      -.infinity, .nan,
    ] as [Double])
  func aDoubleRoundTrips(number: Double) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let returned = try await connection.query("SELECT \(number)::float8")
          .onlyRow(as: Double.self)
        #expect(returned == number || returned.isNaN && number.isNaN)
        #expect(returned.sign == number.sign || number.isNaN)
      }
    }
  }

  @Test func boolsAndNullsRoundTrip() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let row = try await connection.query(
          """
          SELECT \(true)::bool AS yes, \(false)::bool AS no,
                 \(Parameter.null)::text IS NULL AS nothing, \(Parameter.null)::bytea AS bytes,
                 \(nil as Int?)::bigint AS number, \(nil as String?)::text AS text, \("x")::text AS x
          """
        ).onlyRow()
        #expect(try row["yes"] && !row["no"] && row["nothing"])
        #expect(try row.decode([UInt8]?.self, "bytes") == nil)
        #expect(try row.decode(Int64?.self, "number") == nil)
        #expect(try row.decode(String?.self, "text") == nil)
        #expect(try row["x"] == "x")
      }
    }
  }

  /// libpq would treat the zero byte as the end of the text and send only the part before it.
  @Test(arguments: [Parameter.text("half\0lost"), .texts(["whole", "half\0lost"]), .text("\0")])
  func aZeroByteInATextIsRefused(parameter: Parameter) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        do {
          _ = try await connection.query("SELECT \(1)::bigint, \(parameter)::text")
          Issue.record("the statement was sent")
        } catch let error as PostgreSQLError {
          #expect(error.code == .misuse)
          #expect(error.message.contains("$2"))
          #expect(!"\(error)".contains("lost"))
        }
        await #expect(throws: PostgreSQLError.self) { try await connection.query("SELECT 1\0, 2") }
        await #expect(throws: PostgreSQLError.self) {
          try await connection.runScript("SELECT 1;\0x")
        }
        #expect(try await connection.query("SELECT 1").onlyRow(as: Int.self) == 1)
      }
    }
  }

  // MARK: Identifiers

  @Test(arguments: [
    "plain", "Upper", "with space", "dot.ted", "quo\"te", "\"\"", "single'quote", "semi;colon",
    "select",
    "ünïcode 😀", "new\nline", "back\\slash", "$1", "-- comment", "%s",
  ])
  func anIdentifierRoundTrips(name: String) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let sql = Identifier(name).quoted
        try await connection.execute("CREATE SCHEMA \(trusted: sql)")
        try await connection.execute(
          "CREATE TABLE \(trusted: sql).\(trusted: sql) (\(trusted: sql) int)")
        try await connection.execute(
          "INSERT INTO \(trusted: sql).\(trusted: sql) (\(trusted: sql)) VALUES (7)")
        let row = try await connection.query(
          """
          SELECT n.nspname, c.relname, a.attname, quote_ident(c.relname) FROM pg_class AS c
          JOIN pg_namespace AS n ON n.oid = c.relnamespace
          JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = 1
          WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
          """
        ).onlyRow(as: String.self, String.self, String.self, String.self)
        #expect(row.0 == name && row.1 == name && row.2 == name)
        #expect(row.3 == sql || row.3 == name)
        let result = try await connection.query(
          "SELECT \(trusted: sql) FROM \(trusted: sql).\(trusted: sql)")
        #expect(result.columnNames == [name])
        #expect(try result.onlyRow(as: Int.self) == 7)
      }
    }
  }
}
