import Migrations
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

@Suite struct MigratorTests {
  private static let files = [
    "1_a.sql": "-- migrate:up\nCREATE TABLE a (x int);\n-- migrate:down\nDROP TABLE a;\n",
    "2_b.sql": "-- migrate:up\nCREATE TABLE b (x int);\n-- migrate:down\nDROP TABLE b;\n",
  ]

  @Test func upAppliesPendingMigrationsAndDownUndoesTheNewest() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(Self.files) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          #expect(try await migrator.status().map(\.isApplied) == [false, false])
          // `status` changes nothing and does not create the version table.
          #expect(try await !connection.hasRelation("public.schema_migrations"))

          #expect(try await migrator.up().map(\.version) == ["1", "2"])
          #expect(try await connection.recordedVersions() == ["1", "2"])
          #expect(try await connection.hasRelation("a"))
          #expect(try await connection.hasRelation("b"))
          #expect(try await migrator.up().isEmpty)

          #expect(try await migrator.down()?.version == "2")
          #expect(try await connection.recordedVersions() == ["1"])
          #expect(try await !connection.hasRelation("b"))
          #expect(
            try await migrator.status().map { "\($0.version) \($0.name) \($0.isApplied)" }
              == ["1 a true", "2 b false"])
          #expect(try await migrator.up().map(\.version) == ["2"])
          #expect(try await migrator.down()?.version == "2")
          #expect(try await migrator.down()?.version == "1")
          #expect(try await migrator.down() == nil)
          #expect(try await connection.recordedVersions() == [])
        }
      }
    }
  }

  @Test(arguments: ["migrations", "migrations/warehouse", "migrations/platform"])
  func theProjectSetsCanBeAppliedAgainAfterARollback(directory: String) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        let set = try MigrationSet(
          directory: FilePath(repositoryRootPath).appending(FilePath(directory).components))
        try #require(!set.migrations.isEmpty)
        let migrator = Migrator(connection: connection, set: set)
        try await migrator.up()
        let before = try await connection.objects()
        #expect(before.count > 10)
        while try await migrator.down() != nil {}
        let remaining = try await connection.objects().filter {
          !$0.contains("schema_migrations") && $0 != "schema public"
        }
        #expect(remaining == [])
        try await migrator.up()
        #expect(try await connection.objects() == before)
        #expect(try await migrator.up().isEmpty)
      }
    }
  }

  @Test func migrationsOfAnotherSetAreNotChanged() async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection throws in
        let recorded = try await connection.recordedVersions()
        try await withMigrationSet(Self.files) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          #expect(try await migrator.up().count == 2)
          #expect(try await connection.recordedVersions() == ["1", "2"] + recorded)
          // The newest recorded version is one of the ledger's, but it does not belong to this set.
          #expect(try await migrator.down()?.version == "2")
          #expect(try await connection.recordedVersions() == ["1"] + recorded)
          #expect(try await connection.hasRelation("lethe.run"))
        }
      }
    }
  }

  @Test func aMissedOlderMigrationIsApplied() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(["2_b.sql": Self.files["2_b.sql"]!]) { set throws in
          _ = try await Migrator(connection: connection, set: set).up()
        }
        try await withMigrationSet(Self.files) { set throws in
          let applied = try await Migrator(connection: connection, set: set).up()
          #expect(applied.map(\.version) == ["1"])
        }
      }
    }
  }

  @Test func concurrentMigratorsApplyEachMigrationOnce() async throws {
    let files = Dictionary(
      uniqueKeysWithValues: (1...8).map { number in
        (
          "\(number)_t.sql",
          "-- migrate:up\nCREATE TABLE t\(number) (x int);\n-- migrate:down\nDROP TABLE t\(number);"
        )
      })
    try await withTestDatabase { database in
      try await withMigrationSet(files) { set throws in
        let applied = try await withThrowingTaskGroup(of: [String].self) { group in
          for _ in 0..<4 {
            group.addTask {
              try await database.withConnection { connection throws in
                try await Migrator(connection: connection, set: set).up().map(\.version)
              }
            }
          }
          return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(applied.sorted() == (1...8).map { "\($0)" })
        try await database.withConnection { connection throws in
          #expect(try await connection.recordedVersions() == (1...8).map { "\($0)" })
        }
      }
    }
  }

  @Test func aCancelledMigratorReleasesTheLock() async throws {
    let files = [
      "1_slow.sql":
        "-- migrate:up\nCREATE TABLE slow (x int);\nSELECT pg_sleep(600);\n-- migrate:down\n"
    ]
    try await withTestDatabase { database in
      try await withMigrationSet(files) { slow throws in
        try await withMigrationSet(Self.files) { quick throws in
          // The connection stays open, so only the cancellation can release the lock.
          try await database.withConnection { connection throws in
            try await database.withConnection { observer throws in
              let migrating = Task {
                try await Migrator(connection: connection, set: slow).up()
              }
              while try await observer.query(
                """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'
                """
              ).onlyRow(as: Int.self) == 0 { try await pollingPause() }
              migrating.cancel()
              await #expect(throws: CancellationError.self) { try await migrating.value }
              #expect(try await !observer.hasRelation("slow"))
              #expect(try await observer.advisoryLocks() == 0)
              #expect(try await Migrator(connection: observer, set: quick).up().count == 2)
            }
          }
        }
      }
    }
  }

  // MARK: Without a transaction

  @Test func anIndexIsBuiltConcurrentlyOutsideATransaction() async throws {
    let files = [
      "1_a.sql": "-- migrate:up\nCREATE TABLE a (x int);\n-- migrate:down\nDROP TABLE a;\n",
      "2_i.sql": """
      -- migrate:up transaction:false
      -- A comment is not a statement.
      CREATE INDEX CONCURRENTLY a_x ON a (x);
      -- migrate:down transaction:false
      DROP INDEX CONCURRENTLY a_x;
      """,
    ]
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(files) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          #expect(try await migrator.up().count == 2)
          #expect(try await connection.hasRelation("a_x"))
          #expect(try await migrator.down()?.version == "2")
          #expect(try await !connection.hasRelation("a_x"))
          #expect(try await connection.recordedVersions() == ["1"])
        }
      }
    }
  }

  @Test func aFailedBlockWithoutATransactionIsNotRecorded() async throws {
    let files = [
      "1_a.sql":
        "-- migrate:up transaction:false\n\nCREATE INDEX CONCURRENTLY i ON nowhere (x);\n-- migrate:down\n"
    ]
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(files) { set throws in
          do {
            try await Migrator(connection: connection, set: set).up()
            Issue.record("the migration succeeded")
          } catch let error as MigrationError {
            #expect(error.line == 3)
            #expect(error.remedy.contains("without a transaction"))
          }
          #expect(try await connection.recordedVersions() == [])
        }
      }
    }
  }

  // MARK: dbmate

  @Test func theVersionTableHasTheSameColumnAsDbmatesTable() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(["20260101000000_x.sql": "-- migrate:up\n-- migrate:down\n"]) {
          _ = try await Migrator(connection: connection, set: $0).up()
        }
        let columns = try await connection.query(
          """
          SELECT column_name, data_type, is_nullable FROM information_schema.columns
          WHERE table_schema = 'public' AND table_name = 'schema_migrations'
          """
        ).onlyRow(as: String.self, String.self, String.self)
        #expect(columns == ("version", "character varying", "NO"))
        let key = try await connection.query(
          """
          SELECT pg_get_constraintdef(oid) FROM pg_constraint
          WHERE conrelid = 'public.schema_migrations'::regclass AND contype = 'p'
          """
        ).onlyRow(as: String.self)
        #expect(key == "PRIMARY KEY (version)")
        #expect(try await connection.recordedVersions() == ["20260101000000"])
      }
    }
  }

  @Test(arguments: ["varchar", "varchar(128)", "varchar(255)"])
  func anExistingTableOfDbmateIsUsed(type: String) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await connection.runScript(
          """
          CREATE TABLE IF NOT EXISTS "public"."schema_migrations" (version \(trusted: type) NOT NULL PRIMARY KEY);
          CREATE TABLE a (x int);
          INSERT INTO "public"."schema_migrations" (version) VALUES ('1');
          """)
        try await withMigrationSet(Self.files) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          #expect(try await migrator.up().map(\.version) == ["2"])
          #expect(try await migrator.down()?.version == "2")
          #expect(try await migrator.down()?.version == "1")
        }
      }
    }
  }

  // MARK: Another tool's table

  /// The table of golang-migrate, a table without a column `version`, and a table with one more column.
  @Test(arguments: [
    "(version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)",
    "(id serial PRIMARY KEY, name text NOT NULL)",
    "(version text PRIMARY KEY, applied_by text NOT NULL)",
  ])
  func aTableWithOtherColumnsIsNotChanged(columns: String) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await connection.runScript("CREATE TABLE public.schema_migrations \(trusted: columns)")
        try await withMigrationSet(Self.files) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          #expect(try await migrator.status().map(\.isApplied) == [false, false])
          #expect(try await migrator.up().map(\.version) == ["1", "2"])
          #expect(try await migrator.up().isEmpty)
          #expect(try await migrator.status().map(\.isApplied) == [true, true])
          #expect(try await migrator.down()?.version == "2")
          #expect(
            try await connection.query("SELECT version FROM lethe_migrations.schema_migrations")
              .rows(as: String.self) == ["1"])
          #expect(
            try await connection.query("SELECT count(*) FROM public.schema_migrations")
              .onlyRow(as: Int.self) == 0)
        }
      }
    }
  }

  @Test func withoutCREATEOnPublicLethesOwnVersionTableIsUsed() async throws {
    try await withTestDatabase { database in
      let role = "\(database.name)_role"
      try await database.withConnection { connection throws in
        try await connection.runScript(
          """
          CREATE ROLE \(trusted: role) LOGIN;
          REVOKE CREATE ON SCHEMA public FROM PUBLIC;
          """)
      }
      func asRole<R: Sendable>(_ body: (Migrator) async throws -> R) async throws -> R {
        try await withMigrationSet([
          "1_a.sql": "-- migrate:up\nCREATE SCHEMA a;\n-- migrate:down\nDROP SCHEMA a;\n"
        ]) { set in
          try await Connection.withConnection(ConnectionString(database.url + "?user=\(role)")) {
            try await body(Migrator(connection: $0, set: set))
          }
        }
      }
      let refused = await #expect(throws: MigrationError.self) {
        try await asRole { try await $0.up() }
      }
      #expect(refused?.remedy.contains("GRANT CREATE ON DATABASE") == true)
      try await database.withConnection { connection throws in
        try await connection.runScript(
          "GRANT CREATE ON DATABASE \(identifier: database.name) TO \(trusted: role)")
      }
      #expect(try await asRole { try await $0.up().map(\.version) } == ["1"])
      #expect(try await asRole { try await $0.up().isEmpty })
      // The migrator continues to use the table that it used first.
      try await database.withConnection { connection throws in
        try await connection.runScript("GRANT CREATE ON SCHEMA public TO \(trusted: role)")
      }
      #expect(try await asRole { try await $0.up().isEmpty })
      #expect(try await asRole { try await $0.down()?.version } == "1")
      try await database.withConnection { connection throws in
        try await connection.runScript(
          "DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
      }
    }
  }
}
