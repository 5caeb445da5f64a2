import PostgreSQL
import TestSupport
import Testing

@Suite struct BinaryRowsTests {
  private static func withTable(
    _ script: SQL, _ body: @Sendable (Connection) async throws -> Void
  ) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(script)
        try await body(connection)
      }
    }
  }

  @Test func valuesOfEveryTypeAreCopiedUnchanged() async throws {
    let script: SQL = """
      CREATE TYPE mood AS ENUM ('good', 'bad');
      CREATE TABLE t (n int, a bigint, b bigint, c integer, d boolean, e text, f bytea, g mood,
                      h timestamptz)
      """
    let numbers: [Int64] = [.min, -1, 0, 1, 9_007_199_254_740_993, .max]
    let texts = ["", "é 😀", "tab\tfeed\nback\\slash", String(repeating: "x", count: 100_000)]
    let blobs: [[UInt8]] = [[], [0], [0, 255, 0], Array(0...255)]
    try await Self.withTable(script) { connection in
      let copied = try await connection.withCopyIn("COPY t FROM STDIN (FORMAT binary)") { copy in
        var rows = BinaryRows()
        for index in 0..<6 {
          rows.beginRow(columns: 9)
          rows.append(int32: Int32(index))
          rows.append(numbers[index])
          rows.append(index.isMultiple(of: 2) ? numbers[index] : nil)
          rows.append(int32: [Int32.min, -1, 0, 1, 2, .max][index])
          rows.append(bool: index.isMultiple(of: 2))
          rows.append(text: texts[index % 4])
          rows.append(bytes: blobs[index % 4])
          rows.append(text: index.isMultiple(of: 2) ? "good" : "bad")
          if index == 0 { rows.appendNull() } else { rows.append(Int64(index) * 1_000_001) }
          if rows.isFull { try await copy.write(rows.take()) }
        }
        try await copy.write(rows.takeLast())
      }
      #expect(copied == 6)
      let result = try await connection.query(
        "SELECT a, b, c, d, e, f, g, h::text FROM t ORDER BY n")
      func column<Value: ColumnDecodable>(
        _ name: String, as type: Value.Type = Value.self
      ) throws -> [Value] { try result.rows.map { try $0.decode(type, name) } }
      #expect(try column("a") == numbers)
      #expect(try column("b", as: Int64?.self) == [.min, nil, 0, nil, 9_007_199_254_740_993, nil])
      #expect(try column("c", as: Int32.self) == [.min, -1, 0, 1, 2, .max])
      #expect(try column("d") == [true, false, true, false, true, false])
      #expect(try column("e") == (0..<6).map { texts[$0 % 4] })
      #expect(try column("f") == (0..<6).map { blobs[$0 % 4] })
      #expect(try column("g") == ["good", "bad", "good", "bad", "good", "bad"])
      #expect(
        try column("h", as: String?.self) == [nil]
          + (1..<6).map { "2000-01-01 00:00:0\($0).00000\($0)+00" })
    }
  }

  @Test func manyRowsAreCopiedInBlocks() async throws {
    try await Self.withTable("CREATE TABLE t (x bigint, y text)") { connection in
      let copied = try await connection.withCopyIn("COPY t FROM STDIN (FORMAT binary)") { copy in
        var rows = BinaryRows()
        for number in 1...100_000 as ClosedRange<Int64> {
          rows.beginRow(columns: 2)
          rows.append(number)
          rows.append(text: "row \(number)")
          if rows.isFull { try await copy.write(rows.take()) }
        }
        try await copy.write(rows.takeLast())
      }
      #expect(copied == 100_000)
      let sums = try await connection.query("SELECT sum(x), bool_and(y = 'row ' || x) FROM t")
        .onlyRow(as: Int64.self, Bool.self)
      #expect(sums == (5_000_050_000, true))
    }
  }
}
