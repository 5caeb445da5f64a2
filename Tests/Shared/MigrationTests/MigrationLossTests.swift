import Migrations
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Tests that a rollback's losses are found before the rollback, for each way to lose data.
@Suite struct MigrationLossTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// The blocks of the migration that is rolled back.
    let up: String
    let down: String
    /// Statements that run after the migration.
    let since: String
    /// The expected lines about the losses.
    let lines: [String]

    init(_ name: String, up: String, down: String, since: String, _ lines: String...) {
      (testDescription, self.up, self.down, self.since) = (name, up, down, since)
      self.lines = lines
    }
  }

  private static let cases: [Case] = [
    Case(
      "tables, with a schema", up: "CREATE SCHEMA s; CREATE TABLE s.a (x int); CREATE TABLE s.b ()",
      down: "DROP SCHEMA s CASCADE", since: "INSERT INTO s.a VALUES (1), (NULL)", "s.a: 2 rows"),
    Case(
      "a name with capitals", up: #"CREATE TABLE public."A b" (x int)"#,
      down: #"DROP TABLE public."A b""#, since: #"INSERT INTO public."A b" VALUES (1)"#,
      #"public."A b": 1 rows"#),
    Case(
      "partitions",
      up: """
        CREATE TABLE p (x int) PARTITION BY LIST (x);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (x);
        CREATE TABLE p11 PARTITION OF p1 DEFAULT; CREATE TABLE p2 PARTITION OF p DEFAULT
        """, down: "DROP TABLE p", since: "INSERT INTO p VALUES (1), (1), (2)", "public.p: 3 rows"),
    Case(
      "columns", up: "ALTER TABLE kept ADD a int, ADD b text, ADD c int DEFAULT 1",
      down: "ALTER TABLE kept DROP a, DROP b",
      since: "INSERT INTO kept (x, a, b) VALUES (1, 1, NULL), (2, NULL, 'x'), (3, NULL, NULL)",
      "public.kept: 2 rows, in a, b"),
    Case(
      "rows", up: "SELECT", down: "DELETE FROM kept WHERE x > 1",
      since: "INSERT INTO kept (x) VALUES (1), (2), (3)", "public.kept: 2 rows"),
    Case(
      "rows of partitions",
      up: "CREATE TABLE p (x int) PARTITION BY LIST (x); CREATE TABLE p1 PARTITION OF p DEFAULT",
      down: "DELETE FROM p", since: "INSERT INTO p VALUES (1), (2)", "public.p: 2 rows"),
    Case(
      "a trigger that is dropped with its function's schema",
      up: """
        CREATE SCHEMA s; CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
        """, down: "DROP SCHEMA s CASCADE",
      since: "CREATE TRIGGER watch BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION s.f()",
      "public.kept: trigger watch"),
    Case(
      "a block without a transaction", up: "CREATE TABLE a ()", down: "DROP TABLE a", since: "",
      "the losses are unknown: the block runs without a transaction"),
  ]

  private static func files(_ one: Case) -> [String: String] {
    let options = one.lines.first?.contains("unknown") == true ? " transaction:false" : ""
    return [
      "1_kept.sql":
        "-- migrate:up\nCREATE TABLE kept (x int);\n-- migrate:down\nDROP TABLE kept;\n",
      "2_it.sql": "-- migrate:up\n\(one.up);\n-- migrate:down\(options)\n\(one.down);\n",
    ]
  }

  @Test(arguments: cases)
  func lossesAreNamedAndNothingIsChanged(one: Case) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(Self.files(one)) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          try await migrator.up()
          if !one.since.isEmpty { try await connection.runScript(SQL(trusted: one.since)) }
          let before = try await connection.objects()
          guard
            case .wouldDestroy(let migration, let losses) = try await migrator.down(
              destroying: false)
          else { Issue.record("the migration was rolled back"); return }
          #expect(migration.version == "2")
          #expect(losses.lines == one.lines)
          #expect(try await connection.objects() == before)
          #expect(try await connection.recordedVersions() == ["1", "2"])

          guard case .rolledBack = try await migrator.down(destroying: true) else {
            Issue.record("the migration was not rolled back")
            return
          }
          #expect(try await connection.recordedVersions() == ["1"])
          // The version table must remain.
          #expect(try await connection.hasRelation("public.schema_migrations"))
          #expect(try await connection.advisoryLocks() == 0)
        }
      }
    }
  }

  /// Without rows, a rollback loses no data, so it needs no confirmation.
  @Test(arguments: cases.filter { !$0.since.isEmpty })
  func emptyTablesAreRolledBackWithoutConfirmation(one: Case) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(Self.files(one)) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          try await migrator.up()
          for version in ["2", "1"] {
            guard case .rolledBack(let migration) = try await migrator.down(destroying: false)
            else { Issue.record("\(version) was not rolled back"); return }
            #expect(migration.version == version)
          }
          guard case .idle = try await migrator.down(destroying: false) else {
            Issue.record("there was another migration")
            return
          }
        }
      }
    }
  }

  /// The empty ledger, platform and reference warehouse are rolled back without confirmation, one migration at a
  /// time.
  @Test(arguments: ["migrations", "migrations/warehouse", "migrations/platform"])
  func theEmptyProjectSetsAreRolledBackWithoutConfirmation(directory: String) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        let set = try MigrationSet(
          directory: FilePath(repositoryRootPath).appending(FilePath(directory).components))
        let migrator = Migrator(connection: connection, set: set)
        try await migrator.up()
        for migration in set.migrations.reversed() {
          guard case .rolledBack(let undone) = try await migrator.down(destroying: false)
          else { Issue.record("\(migration.name) was not rolled back"); return }
          #expect(undone.version == migration.version)
        }
      }
    }
  }

  /// `public.schema_migrations` belongs to another program, so Lethe uses `lethe_migrations.schema_migrations`. A
  /// rollback deletes only Lethe's own versions.
  @Test func aRollbackKeepsTheVersionsOfOtherPrograms() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await connection.runScript(
          """
          CREATE TABLE public.schema_migrations (version bigint NOT NULL, dirty boolean NOT NULL);
          INSERT INTO public.schema_migrations VALUES (7, false)
          """)
        let set = try MigrationSet(
          directory: FilePath(repositoryRootPath).appending("migrations"))
        let migrator = Migrator(connection: connection, set: set)
        try await migrator.up()
        try await connection.execute(
          "INSERT INTO lethe_migrations.schema_migrations VALUES ('somebody-else')")
        while try await migrator.down() != nil {}
        #expect(
          try await connection.query("SELECT version FROM lethe_migrations.schema_migrations")
            .rows(as: String.self) == ["somebody-else"])
        #expect(
          try await connection.query("SELECT version FROM public.schema_migrations")
            .rows(as: Int.self) == [7])
      }
    }
  }
}
