import Foundation
import PostgreSQL
import TestSupport
import Testing

@Suite struct MigrateCommandTests {
  private static let ledger = repositoryRootPath + "/migrations"
  private static let platform = repositoryRootPath + "/migrations/platform"
  private static let warehouse = repositoryRootPath + "/migrations/warehouse"

  private static func migrate(
    _ program: String, _ database: TestDatabase, _ arguments: String...
  ) async throws -> Program.Result {
    try await Program.run(
      program, ["migrate"] + arguments, environment: ["DATABASE_URL": database.url])
  }

  /// The names of all tables that do not belong to PostgreSQL itself.
  private static func tables(_ database: TestDatabase) async throws -> [String] {
    try await database.withConnection {
      try await $0.query(
        """
        SELECT schemaname || '.' || tablename FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
        """
      ).rows(as: String.self)
    }
  }

  // MARK: Down

  /// Each `down` reverts the newest migration. A migration without data is reverted without `--yes`.
  @Test func aLedgerWithEvidenceIsDroppedOnlyWhenAllowed() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let file = try fixture.definitionFile()
      #expect(
        try await Program.run("lethe", ["run", file], environment: fixture.environment).code == 0)
      // Lethe does not revert the migrations of holds and approvals while the ledger has such records. So the test
      // deletes them.
      try await fixture.execute(
        """
        DELETE FROM lethe.holder; DELETE FROM lethe.hold; DELETE FROM lethe.seal WHERE kind = 'approval'
        """)
      let guarded = try await Program.run(
        "lethe", ["guard", "install", "warehouse.posts", "--type", "tweets"],
        environment: fixture.environment)
      #expect(guarded.code == 0, "\(guarded.stderr)")
      var destroyed: [String: Int] = [:]
      var removed: [String] = []
      let versions = try await fixture.value("SELECT count(*) FROM schema_migrations", as: Int.self)
      for _ in 1...(2 * versions) {
        let expected = try await Self.counts(fixture)
        let first = try await Self.migrate(
          "lethe", fixture.database, "down", "--migrations-dir", Self.ledger, "--output", "json")
        if first.code == 0 {
          if (first.json["rolled_back"] as? [String])?.isEmpty == true { break }
          continue
        }
        #expect(first.code == 2, "\(first.stderr)")
        #expect((first.json["error"] as? [String: String])?["remedy"]?.contains("--yes") == true)
        #expect(try await Self.counts(fixture) == expected)
        for table in try #require(first.json["would_destroy"] as? [[String: Any]]) {
          let name = try #require(table["table"] as? String)
          let rows = try #require(table["rows"] as? Int)
          #expect(first.stderr.contains("\(name): \(rows) rows"), "\(first.stderr)")
          if (table["columns"] as? [String])?.isEmpty == true { destroyed[name] = rows }
          if (table["columns"] as? [String])?.isEmpty == true, let known = expected[name] {
            #expect(rows == known, "\(name)")
          }
        }
        for trigger in try #require(first.json["would_remove"] as? [[String: String]]) {
          removed.append("\(trigger["trigger"] ?? "") on \(trigger["table"] ?? "")")
          #expect(first.stderr.contains("warehouse.posts: trigger lethe_guard"))
        }
        let allowed = try await Self.migrate(
          "lethe", fixture.database, "down", "--migrations-dir", Self.ledger, "--yes")
        #expect(allowed.code == 0, "\(allowed.stderr)")
      }
      for table in ["lethe.event", "lethe.tombstone", "lethe.seal", "lethe.batch", "lethe.run"] {
        #expect(destroyed[table] ?? 0 > 0, "\(table) was not named")
      }
      #expect(removed == ["lethe_guard on warehouse.posts"])
      #expect(try await Self.tables(fixture.database).allSatisfy { !$0.hasPrefix("lethe.") })
      // The migrations of the warehouse and of the platform are still applied.
      #expect(try await fixture.value("SELECT count(*) FROM schema_migrations", as: Int.self) > 0)
    }
  }

  private static func counts(_ fixture: PipelineFixture) async throws -> [String: Int] {
    let names = try await tables(fixture.database).filter {
      ["lethe.event", "lethe.tombstone", "lethe.seal", "lethe.run", "lethe.chunk"].contains($0)
    }
    var counts: [String: Int] = [:]
    for name in names {
      counts[name] = try await fixture.value("SELECT count(*) FROM \(trusted: name)", as: Int.self)
    }
    return counts
  }

  @Test func theServicesTablesAreDroppedOnlyWhenAllowed() async throws {
    try await withTestDatabase(.platform) { database in
      try await database.withConnection {
        try await $0.runScript(
          "INSERT INTO platform.accounts (account_id, username, created_at) VALUES (1, 'a', now())")
      }
      var refused: [String] = []
      for _ in 1...20 {
        let first = try await Self.migrate(
          "compliance-server", database, "down", "--migrations-dir", Self.platform)
        if first.stdout.contains("nothing is applied") { break }
        if first.code == 0 { continue }
        #expect(first.code == 2)
        refused.append(first.stderr)
        let allowed = try await Self.migrate(
          "compliance-server", database, "down", "--migrations-dir", Self.platform, "--yes")
        #expect(allowed.code == 0, "\(allowed.stderr)")
      }
      #expect(refused.count == 1)
      #expect(refused.first?.contains("platform.accounts: 1 rows") == true, "\(refused)")
      #expect(refused.first?.contains("--yes") == true)
    }
  }

  // MARK: The program of a migration

  @Test(
    arguments: [
      ("lethe", platform, "compliance-server"), ("lethe", warehouse, "the demo's warehouse"),
      ("compliance-server", ledger, "Lethe's ledger"),
      ("compliance-server", warehouse, "the demo's warehouse"),
    ], ["up", "down", "status"])
  func aProgramRefusesMigrationsOfAnotherProgram(
    given: (program: String, directory: String, name: String), command: String
  ) async throws {
    try await withTestDatabase { database in
      let result = try await Self.migrate(
        given.program, database, command, "--migrations-dir", given.directory)
      #expect(result.code == 2, "\(result.stderr)")
      #expect(result.stderr.contains(given.name), "\(result.stderr)")
      #expect(result.stderr.contains("remedy:"), "\(result.stderr)")
      #expect(try await Self.tables(database) == [])
    }
  }

  @Test func theDemosWarehouseIsCreatedWithTheDemoOption() async throws {
    try await withTestDatabase { database in
      let result = try await Self.migrate(
        "lethe", database, "up", "--demo", "--migrations-dir", Self.warehouse)
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await Self.tables(database).contains("warehouse.posts"))
    }
  }
}
