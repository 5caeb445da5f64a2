import Foundation
import Migrations
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Tests of the migration that merges identical quarantined lines. Earlier versions quarantined the same line again in
/// each run.
@Suite struct QuarantineMigrationTests {
  private static let version = "20261126083000"

  /// Three chunks of the datasets a, a and b. Each chunk has a job with the chunk's number. The lines were quarantined
  /// on three successive days.
  private static let ledger: SQL = """
    INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease)
    VALUES ('0123456789ab', 'p', '{}', '/w', gen_random_uuid());
    INSERT INTO lethe.chunk (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path,
                             lease, state, created_at, uploaded_at, completed_at, collected_at,
                             applied_at, events, quarantined, applied_through)
    SELECT run_id, CASE WHEN n < 3 THEN 'a' ELSE 'b' END, 'tweets', n, 1, 10, 10, 10, sha256(''), '/p', lease,
           'applied', now(), now(), now(), now(), now(), 0, 1, 10
    FROM lethe.run, generate_series(1, 3) AS n ORDER BY n;
    INSERT INTO lethe.job (chunk_id, attempt, name, api_id, created_at, asked_at, ended_at,
                           result_sha256, silence)
    SELECT chunk_id, 1, 'job-' || chunk_id, chunk_id::text, now(), '2026-01-01Z'::timestamptz + chunk_id * interval '1 day',
           now(), sha256(''), 'none'
    FROM lethe.chunk ORDER BY 1;
    INSERT INTO lethe.quarantine (chunk_id, job_id, line, raw, why, id, in_chunk, quarantined_at, resolved_at, resolution)
    SELECT job_id, job_id, line, raw::bytea, 'w', id, true, '2026-02-01Z'::timestamptz + job_id * interval '1 day',
           CASE WHEN line = 9 THEN now() END, CASE WHEN line = 9 THEN 'dismissed' END
    FROM (VALUES
      (1, 1, '{"id":"4","action":"delete","reason":"withheld","at":1}', 4),
      (2, 7, '{"id":"4","action":"delete","reason":"withheld","at":2}', 4),
      (2, 2, '{"id":"4","action":"delete","reason":"hidden"}', 4),
      (3, 1, '{"id":"4","action":"delete","reason":"withheld","at":3}', 4),
      (1, 9, '{"id":"4","action":"delete","reason":"withheld","at":1}', 4),
      (1, 3, '\\377garbage', NULL), (2, 3, '\\377garbage', NULL), (2, 4, '\\376garbage', NULL),
      (1, 5, '{"id":"5","action":"a\\\\u0000"}', 5), (2, 5, '{"id":"5","action":"a\\\\u0000"}', 5))
      AS q (job_id, line, raw, id);
    """

  @Test func identicalUnresolvedLinesAreMerged() async throws {
    let folder = FilePath(repositoryRootPath).appending("migrations")
    var files: [String: String] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.string)
    where name.hasSuffix(".sql") && name.prefix(14) <= Self.version {
      files[name] = try String(contentsOfFile: folder.appending(name).string, encoding: .utf8)
    }
    let earlier = files.filter { $0.key.prefix(14) < Self.version }
    let all = files
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await withMigrationSet(earlier) {
          _ = try await Migrator(connection: connection, set: $0).up()
        }
        try await connection.runScript(Self.ledger)
        let before = try await connection.objects()
        try await withMigrationSet(all) { set in
          #expect(try await Migrator(connection: connection, set: set).up().count == 1)
          let lines = try await connection.query(
            """
            SELECT concat_ws(' ', job_id || '/' || line, seen || 'x', to_char(quarantined_at, 'DD'),
                             to_char(last_seen_at, 'DD'), resolution)
            FROM lethe.quarantine ORDER BY job_id, line
            """
          ).rows(as: String.self)
          #expect(
            lines == [
              "1/9 1x 02 02 dismissed", "2/2 1x 03 03", "2/3 2x 02 03", "2/4 1x 03 03",
              "2/5 2x 02 03", "2/7 2x 02 03", "3/1 1x 04 04",
            ])
          try await connection.runScript(
            """
            UPDATE lethe.quarantine SET resolved_at = now(), resolution = 'answered' WHERE line = 7
            """)
          _ = try await Migrator(connection: connection, set: set).down()
          #expect(try await connection.objects() == before)
        }
      }
    }
  }
}
