import Foundation
import Migrations
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Tests of the migration that adds the column `lethe.run.is_given_up`. For a run that was given up, earlier versions
/// recorded only a message in `failure`.
@Suite struct GivenUpMigrationTests {
  private static let version = "20261127003900"

  /// A running run, a failed run, a run that was given up, and a run that is running again after it was given up.
  private static let ledger: SQL = """
    INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease, status, finished_at, failure)
    SELECT key, 'p', '{}', '/w', gen_random_uuid(), status::lethe.run_status,
           CASE WHEN status = 'failed' THEN now() END, failure
    FROM (VALUES
      ('000000000001', 'running', NULL),
      ('000000000002', 'failed', 'chunk 1: given up by the operator'),
      ('000000000003', 'failed', 'given up by the operator'),
      ('000000000004', 'running', 'given up by the operator')) AS run (key, status, failure)
    """

  @Test func runsThatWereGivenUpAreMarkedInTheNewColumn() async throws {
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
          let givenUp = try await connection.query(
            "SELECT key FROM lethe.run WHERE is_given_up ORDER BY key"
          ).rows(as: String.self)
          #expect(givenUp == ["000000000003", "000000000004"])
          _ = try await Migrator(connection: connection, set: set).down()
          #expect(try await connection.objects() == before)
        }
      }
    }
  }
}
