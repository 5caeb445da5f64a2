import ChunkFiles
import Definitions
import ExportStage
import Foundation
import Ledger
import PostgreSQL
import SystemPackage
import TestSupport
import Testing
import Vocabulary
import Warehouse

/// The export stage writes the IDs of a table to chunk files.
@Suite struct ExportTests {
  /// The test runs for several types of the ID column. The `where` condition has no effect on the lookup. The
  /// table has the same name as an alias in the query.
  @Test(
    arguments: [
      ("bigint", nil, "(1), (3), (NULL)"), ("numeric", nil, "(1), (3.0), (4.5)"),
      ("text", nil, "('1'), ('3'), ('x'), (' 4')"),
      ("text", IDNormalization.digits, "(' 1'), ('003'), ('x'), ('4 4')"),
    ] as [(String, IDNormalization?, String)])
  func theStoredIDsAreFoundByTheirValue(
    type: String, normalization: IDNormalization?, rows: String
  ) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(
          "CREATE TABLE public.lethe_asked (t \(trusted: type)); INSERT INTO public.lethe_asked VALUES \(trusted: rows)"
        )
        let dataset = Dataset(
          name: "posts", type: .tweets, table: TableName(schema: "public", name: "lethe_asked"),
          id: IDSource(column: "t", normalization: normalization), condition: "false",
          chunkIDsMax: 4, chunkBytesMax: 1000, actions: [:], targets: [], tombstones: false,
          batch: nil)
        let definition = Definition(
          name: "test", limits: .init(maxRedactedPercent: 100, maxRedactedRows: 0),
          datasets: [dataset])
        let catalog = try await Catalog(of: definition, on: connection)
        let stored = try await connection.withTransaction {
          try await ExportStage.stored(in: dataset, catalog: catalog)([1, 2, 3, 4, .max], $0)
        }
        #expect(Set(stored) == [1, 3])
      }
    }
  }

  /// Exports a table and returns the IDs in its chunk files, one array for each chunk.
  /// - Parameter newType: the type that the column gets after the catalog was read.
  private func export(
    column type: String, rows: String, condition: String? = nil, idsMax: Int = 4,
    changing newType: String? = nil,
    before: @Sendable (Connection, Run, Lease) async throws -> Void = { _, _, _ in }
  ) async throws -> [[Int64]] {
    try await withTestDatabase(.ledger) { database in
      let directory = FileManager.default.temporaryDirectory
        .appending(path: "export-\(database.name)").path
      defer { try? FileManager.default.removeItem(atPath: directory) }
      return try await database.withConnection { connection in
        try await connection.runScript(
          #"""
          CREATE SCHEMA "odd names";
          CREATE DOMAIN "odd names".id AS bigint;
          CREATE TABLE "odd names"."the ""posts""" ("Post ID" \#(trusted: type), kind text);
          INSERT INTO "odd names"."the ""posts""" \#(trusted: rows);
          """#)
        let dataset = Dataset(
          name: "posts", type: .tweets,
          table: TableName(schema: "odd names", name: #"the "posts""#), id: "Post ID",
          condition: condition, chunkIDsMax: idsMax, chunkBytesMax: 1000, actions: [:], targets: [],
          tombstones: false, batch: nil)
        let definition = Definition(
          name: "test", limits: .init(maxRedactedPercent: 100, maxRedactedRows: 0),
          datasets: [dataset])
        let lease = Lease()
        let run = try await RunLedger(connection: connection)
          .begin(definition, in: directory, lease: lease)
        try await before(connection, run, lease)
        return try await database.withConnection { recording in
          let catalog = try await Catalog(of: definition, on: recording)
          if let newType {
            try await recording.execute(
              #"""
              ALTER TABLE "odd names"."the ""posts""" ALTER "Post ID" TYPE \#(trusted: newType)
                USING "Post ID"::\#(trusted: newType)
              """#)
          }
          let stage = ExportStage(
            connection: connection,
            ledger: ExportLedger(connection: recording, run: run, lease: lease), catalog: catalog,
            workDirectory: FilePath(run.workDirectory), logger: PipelineFixture.logger)
          try await stage.export(dataset) { _ in }
          // The export is complete, so a second export changes nothing.
          try await stage.export(dataset) { _ in }
          let chunks = try await ChunkLedger(connection: recording, lease: lease)
            .chunks(of: run.id, in: [.exported])
          #expect(chunks.map(\.number) == Array(1..<(chunks.count + 1)))
          return try chunks.map { chunk in
            let ids = try String(contentsOfFile: chunk.path, encoding: .utf8)
              .split(separator: "\n").compactMap { Int64($0) }
            #expect(ids.count == chunk.ids)
            #expect(ids.first == chunk.firstID)
            #expect(ids.last == chunk.lastID)
            return ids
          }
        }
      }
    }
  }

  /// A value of the new type could be read or rounded as another ID.
  @Test(arguments: ["bigint", "integer"], ["double precision", "numeric", "real", "text"])
  func aColumnThatIsNoLongerAnIntegerIsNotExported(type: String, newType: String) async throws {
    await #expect(throws: PostgreSQLError.self) {
      _ = try await export(
        column: type, rows: "SELECT i FROM generate_series(1, 9) AS i", changing: newType)
    }
  }

  @Test(arguments: ["integer", "smallint", #""odd names".id"#])
  func aColumnWithAnotherIntegerTypeIsExported(newType: String) async throws {
    let chunks = try await export(
      column: "bigint", rows: "VALUES (7), (5), (6)", changing: newType)
    #expect(chunks == [[5, 6, 7]])
  }

  @Test(
    arguments: [
      "bigint", "integer", "numeric", "text", "character varying(30)",
      #""odd names".id"#,
    ])
  func idsOfEveryTypeAreExportedOnceInNumericOrder(type: String) async throws {
    let chunks = try await export(
      column: type, rows: "VALUES (100), (9), (20), (20), (3), (100), (NULL), (0), (-5), (1000)")
    #expect(chunks == [[3, 9, 20, 100], [1000]])
  }

  @Test func aValueThatIsNoIDIsLeftOutOfANumericOrTextColumn() async throws {
    let numeric = try await export(
      column: "numeric", rows: "VALUES (1.5), (2), (9223372036854775807), (9223372036854775808)")
    #expect(numeric == [[2, 9_223_372_036_854_775_807]])
    let text = try await export(
      column: "text",
      rows: "VALUES ('007'), (' 7'), ('x'), (''), ('9223372036854775807'), ('9223372036854775808')")
    #expect(text == [[9_223_372_036_854_775_807]])
  }

  @Test func theConditionOfTheDefinitionSelectsTheRows() async throws {
    let chunks = try await export(
      column: "bigint", rows: "VALUES (1, 'a'), (2, 'b'), (3, 'a')",
      condition: "kind = 'a' OR kind = 'c' -- and a comment")
    #expect(chunks == [[1, 3]])
  }

  @Test func anEmptyTableHasNoChunk() async throws {
    #expect(try await export(column: "bigint", rows: "SELECT 1 WHERE false") == [])
  }

  @Test func anInterruptedExportResumesAfterItsLastRecordedChunk() async throws {
    let chunks = try await export(
      column: "bigint", rows: "SELECT i FROM generate_series(1, 10) AS i"
    ) { connection, run, lease in
      // An earlier process recorded the first two IDs and left an incomplete file.
      try FileManager.default.createDirectory(
        atPath: run.workDirectory, withIntermediateDirectories: true)
      let path = run.workDirectory + "/posts-000001.ids"
      try "1\n2\n".write(toFile: path, atomically: true, encoding: .utf8)
      try "3\n4".write(
        toFile: run.workDirectory + "/posts-000002.ids.partial", atomically: true, encoding: .utf8)
      let ledger = ExportLedger(connection: connection, run: run, lease: lease)
      _ = try await ledger.progress(of: "posts", type: .tweets)
      _ = try await ledger.chunkExported(
        .init(
          path: FilePath(path), number: 1, firstID: 1, lastID: 2, ids: 2, bytes: 4,
          sha256: [UInt8](repeating: 0, count: 32)),
        dataset: "posts", type: .tweets, snapshot: "1:1:")
    }
    #expect(chunks == [[1, 2], [3, 4, 5, 6], [7, 8, 9, 10]])
  }

  @Test func aProcessThatHasLostItsLeaseRecordsNothing() async throws {
    await #expect {
      _ = try await export(column: "bigint", rows: "VALUES (1)") { connection, run, _ in
        try await RunLedger(connection: connection).takeOver(run.id, lease: Lease())
      }
    } throws: { ($0 as? LedgerError)?.code == .leaseLost }
  }
}
