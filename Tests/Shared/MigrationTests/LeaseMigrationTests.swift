import Foundation
import Migrations
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Tests of the migration that replaces the advisory lock of a pipeline with leases.
@Suite struct LeaseMigrationTests {
  private static let version = "20261127041500"

  @Test func theMigrationIsRefusedWhileAnEarlierProgramWorks() async throws {
    let folder = FilePath(repositoryRootPath).appending("migrations")
    var files: [String: String] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.string)
    where name.hasSuffix(".sql") && name.prefix(14) <= Self.version {
      files[name] = try String(contentsOfFile: folder.appending(name).string, encoding: .utf8)
    }
    let (earlier, all) = (files.filter { $0.key.prefix(14) < Self.version }, files)
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await withMigrationSet(earlier) {
          _ = try await Migrator(connection: connection, set: $0).up()
        }
        try await withMigrationSet(all) { set in
          let migrator = Migrator(connection: connection, set: set)
          try await database.withConnection { earlierProgram in
            try await earlierProgram.execute(
              "SELECT pg_advisory_lock(hashtext('lethe.pipeline'), hashtext('nightly'))")
            do {
              _ = try await migrator.up()
              Issue.record("the ledger was migrated")
            } catch {
              #expect("\(error)".contains("a lethe process is working on a pipeline"), "\(error)")
            }
            #expect(try await !connection.hasRelation("lethe.lease"))
            // Locks of other programs, and of other kinds, do not matter.
            try await earlierProgram.execute("SELECT pg_advisory_unlock_all()")
            try await earlierProgram.execute("SELECT pg_advisory_lock(1, 2), pg_advisory_lock(3)")
            #expect(try await migrator.up().count == 1)
          }
          #expect(try await connection.hasRelation("lethe.lease"))
        }
      }
    }
  }
}
