import Foundation
import Migrations
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Tests of the migration that adds `lethe.job.silence` and `lethe.unspoken`. Earlier versions did not record for which
/// IDs a result's silence means "clean".
@Suite struct SilenceMigrationTests {
  private static let version = "20261125110000"

  /// Chunks 1 to 6. Each chunk has the IDs 1 to 10 and a job with the chunk's number. All results except the last are
  /// collected.
  private static let ledger: SQL = """
    INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease)
    VALUES ('0123456789ab', 'p', '{}', '/w', gen_random_uuid());
    INSERT INTO lethe.chunk (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path,
                             lease, state, created_at, uploaded_at, completed_at, collected_at,
                             applied_at, failed_at, failure, is_retryable, events, quarantined,
                             applied_through)
    SELECT run_id, 'd', 'tweets', n, 1, 10, 10, 10, sha256(''), '/p', lease,
           (CASE WHEN n = 5 THEN 'failed' WHEN n = 6 THEN 'complete' ELSE 'applied' END)::lethe.chunk_state,
           now(), now(), now(), CASE WHEN n < 6 THEN now() END, CASE WHEN n < 5 THEN now() END,
           CASE WHEN n = 5 THEN now() END, CASE WHEN n = 5 THEN 'no' END, CASE WHEN n = 5 THEN true END,
           CASE WHEN n < 6 THEN 0 END, CASE WHEN n < 6 THEN 0 END, CASE WHEN n < 6 THEN 10 END
    FROM lethe.run, generate_series(1, 6) AS n ORDER BY n;
    INSERT INTO lethe.job (chunk_id, attempt, name, api_id, created_at, asked_at, ended_at,
                           result_sha256)
    SELECT chunk_id, 1, 'job-' || chunk_id, chunk_id::text, now(), now(),
           CASE WHEN number < 6 THEN now() END, CASE WHEN number < 6 THEN sha256('') END
    FROM lethe.chunk ORDER BY 1;
    INSERT INTO lethe.quarantine (chunk_id, job_id, line, raw, why, id, in_chunk)
    SELECT job_id, job_id, line, 'x', why, id, in_chunk
    FROM (VALUES (2, 1, 'unknown reason withheld', 4, true), (2, 2, 'unknown reason withheld', 4, true),
                 (2, 3, 'the ID is not in the chunk', 77, false), (3, 1, 'not a JSON object', NULL, NULL),
                 (3, 2, 'no reason', 5, true), (4, 1, 'the API says invalid_id', NULL, NULL))
      AS q (job_id, line, why, id, in_chunk);
    """

  @Test func theSilenceOfResultsOfEarlierVersionsIsRecorded() async throws {
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
          let silences = try await connection.query(
            "SELECT coalesce(silence::text, '-') FROM lethe.job ORDER BY job_id"
          ).rows(as: String.self)
          #expect(silences == ["spoken", "spoken", "none", "spoken", "none", "-"])
          let unspoken = try await connection.query(
            "SELECT job_id || ' ' || id FROM lethe.unspoken ORDER BY job_id, id"
          ).rows(as: String.self)
          #expect(unspoken == ["2 4", "3 5"])
          // Job 2 has no ranges, because the numbers of IDs below and above ID 4 are not recorded.
          let ranges = try await connection.query(
            """
            SELECT job_id || ': ' || a.first_id || '-' || a.last_id || ' ' || a.ids
            FROM lethe.job, lethe.answered_ranges(job_id) AS a ORDER BY job_id
            """
          ).rows(as: String.self)
          #expect(ranges == ["1: 1-10 10", "4: 1-10 10"])
          _ = try await Migrator(connection: connection, set: set).down()
          #expect(try await connection.objects() == before)
        }
      }
    }
  }

  /// The largest possible ID has no answer, or is next to an ID without an answer.
  @Test func rangesCanEndAtTheLargestID() async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        try await connection.runScript(Self.ledger)
        try await connection.runScript(
          """
          UPDATE lethe.chunk SET first_id = 9223372036854775800, last_id = 9223372036854775807, ids = 8;
          UPDATE lethe.job SET silence = 'spoken' WHERE job_id < 4;
          DELETE FROM lethe.unspoken;
          INSERT INTO lethe.unspoken VALUES (2, 9223372036854775807, 7), (3, 9223372036854775806, 6)
          """)
        let ranges = try await connection.query(
          """
          SELECT job_id || ': ' || a.first_id % 100 || '-' || a.last_id % 100 || ' ' || a.ids
          FROM lethe.job, lethe.answered_ranges(job_id) AS a ORDER BY job_id, a.first_id
          """
        ).rows(as: String.self)
        #expect(ranges == ["1: 0-7 8", "2: 0-6 7", "3: 0-5 6", "3: 7-7 1"])
      }
    }
  }
}
