import Foundation
import Migrations
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Tests of the migration that adds traces and merges overlapping ranges in `lethe.coverage`. Earlier versions recorded
/// such ranges.
@Suite struct GrowthMigrationTests {
  private static let version = "20261126085000"

  /// Thirty chunks with random ranges in two datasets. Each chunk has a coverage range, unless another range of its
  /// dataset begins at the same ID.
  private static func ledger(_ random: inout SeededGenerator) -> String {
    var ranges: [String] = []
    for number in 1...30 {
      let first = Int.random(in: 1...150, using: &random)
      let last = first + Int.random(in: 0...60, using: &random)
      let minutes = Int.random(in: 0...20, using: &random)
      ranges.append("(\(number), '\(["d", "e"][number % 2])', \(first), \(last), \(minutes))")
    }
    return """
      INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease)
      VALUES ('0123456789ab', 'p', '{}', '/w', gen_random_uuid());
      CREATE TABLE public.range AS SELECT * FROM (VALUES \(ranges.joined(separator: ", ")))
        AS r (number, dataset, first_id, last_id, minutes);
      INSERT INTO lethe.chunk (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path, lease)
      SELECT run_id, r.dataset, 'tweets', number, first_id, last_id, 1, 10, sha256(''), '/p', lease
      FROM lethe.run, public.range AS r ORDER BY number;
      INSERT INTO lethe.coverage (pipeline, dataset, first_id, last_id, ids, checked_at, chunk_id)
      SELECT 'p', dataset, first_id, last_id, 1, now() + minutes * interval '1 minute', chunk_id
      FROM lethe.chunk JOIN public.range USING (number, dataset, first_id, last_id)
      ON CONFLICT DO NOTHING;
      CREATE TABLE public.old AS TABLE lethe.coverage;
      """
  }

  /// Counts the IDs whose newest `checked_at` was changed by the migration, and the IDs that are in more than one
  /// range.
  private static let differences: SQL = """
    SELECT count(*) FROM generate_series(1, 220) AS id, (VALUES ('d'), ('e')) AS d (name)
    WHERE (SELECT max(checked_at) FROM public.old WHERE dataset = name AND id BETWEEN first_id AND last_id)
            IS DISTINCT FROM
          (SELECT max(checked_at) FROM lethe.coverage WHERE dataset = name AND id BETWEEN first_id AND last_id)
       OR 1 < (SELECT count(*) FROM lethe.coverage WHERE dataset = name AND id BETWEEN first_id AND last_id)
    """

  private static func files() throws -> (earlier: [String: String], all: [String: String]) {
    let folder = FilePath(repositoryRootPath).appending("migrations")
    var files: [String: String] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.string)
    where name.hasSuffix(".sql") && name.prefix(14) <= version {
      files[name] = try String(contentsOfFile: folder.appending(name).string, encoding: .utf8)
    }
    return (files.filter { $0.key.prefix(14) < version }, files)
  }

  @Test(arguments: 0..<4)
  func overlappingRangesAreMerged(part: Int) async throws {
    let seed = SeededGenerator.seedOfTest() &+ UInt64(part)
    var random = SeededGenerator(seed: seed)
    let ledger = Self.ledger(&random)
    let (earlier, all) = try Self.files()
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await withMigrationSet(earlier) {
          _ = try await Migrator(connection: connection, set: $0).up()
        }
        try await connection.runScript(SQL(trusted: ledger))
        let before = try await connection.objects()
        try await withMigrationSet(all) { set in
          #expect(try await Migrator(connection: connection, set: set).up().count == 1)
          #expect(
            try await connection.query(Self.differences).onlyRow(as: Int.self) == 0, "seed \(seed)")
          _ = try await Migrator(connection: connection, set: set).down()
          #expect(try await connection.objects() == before)
          let unknown: SQL =
            "SELECT count(*) FROM lethe.coverage WHERE ids IS NULL OR ids > last_id - first_id + 1"
          #expect(try await connection.query(unknown).onlyRow(as: Int.self) == 0)
        }
      }
    }
  }

  /// If the ledger has traces, the migration cannot be rolled back, because earlier versions cannot read or verify
  /// them.
  @Test func aLedgerWithTracesIsNotRolledBack() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await withMigrationSet(try Self.files().all) { set in
          _ = try await Migrator(connection: connection, set: set).up()
          try await connection.runScript(
            """
            INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease)
            VALUES ('0123456789ab', 'p', '{}', '/w', gen_random_uuid());
            INSERT INTO lethe.chunk (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path, lease)
            SELECT run_id, 'd', 'tweets', 1, 1, 9, 9, 10, sha256(''), '/p', lease FROM lethe.run;
            INSERT INTO lethe.trace
            SELECT chunk_id, 1, 'tweets', 'protected', 'protect', 1, now(), 2, 1, 5, '\\x0004' FROM lethe.chunk
            """)
          await #expect {
            _ = try await Migrator(connection: connection, set: set).down()
          } throws: {
            "\($0)".contains("traces")
          }
          #expect(try await connection.hasRelation("lethe.trace"))
        }
      }
    }
  }

  @Test func rangesAndTracesCanContainTheLargestID() async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        try await connection.runScript(
          """
          INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease)
          VALUES ('0123456789ab', 'p', '{}', '/w', gen_random_uuid());
          INSERT INTO lethe.chunk (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path, lease)
          SELECT run_id, 'd', 'tweets', n, 1, 9223372036854775807, 9, 10, sha256(''), '/p', lease
          FROM lethe.run, generate_series(1, 3) AS n;
          SELECT lethe.cover('p', 'd', n::bigint, now() + n * interval '1 minute', ARRAY[f], ARRAY[9223372036854775807],
                             ARRAY[1::bigint])
          FROM (VALUES (1, 1::bigint), (2, 9223372036854775807), (3, 9223372036854775806)) AS v (n, f);
          INSERT INTO lethe.trace
          SELECT chunk_id, 1, 'tweets', 'protected', 'protect', 1, now(), 3, 1, 9223372036854775807,
                 '\\x000000000000000000000000000000027ffffffffffffffe' FROM lethe.chunk WHERE chunk_id = 1
          """)
        let ranges = try await connection.query(
          "SELECT first_id || '-' || last_id FROM lethe.coverage ORDER BY first_id"
        ).rows(as: String.self)
        #expect(ranges == ["1-9223372036854775805", "9223372036854775806-9223372036854775807"])
        let ids = try await connection.query(
          """
          SELECT id FROM lethe.traced_event
          WHERE 'protected' = ANY (ARRAY(SELECT lethe.traced_reason(1, id)::text)) ORDER BY id
          """
        ).rows(as: Int64.self)
        #expect(ids == [1, 3, 9_223_372_036_854_775_807])
        let others = try await connection.query(
          """
          SELECT count(*) FROM unnest('{2,4,9223372036854775806}'::bigint[]) AS id,
          lethe.traced_reason(1, id)
          """
        ).onlyRow(as: Int.self)
        #expect(others == 0)
      }
    }
  }
}
