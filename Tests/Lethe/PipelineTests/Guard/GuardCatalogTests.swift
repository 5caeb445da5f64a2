import Definitions
import Ledger
import PostgreSQL
import TestSupport
import Testing
import Vocabulary
import Warehouse

/// The faults of guards that `lethe guard list` finds in the system catalogs of PostgreSQL.
@Suite struct GuardCatalogTests {
  struct Change: Sendable, CustomTestStringConvertible {
    let sql: SQL
    let state: InstalledGuard.State
    let messagePart: String

    var testDescription: String { sql.description }
  }

  private static let changes = [
    Change(sql: "ALTER TABLE posts ADD COLUMN x int", state: .active, messagePart: ""),
    Change(
      sql: "CREATE TABLE posts_3 PARTITION OF posts FOR VALUES IN (3)", state: .active,
      messagePart: ""),
    Change(
      sql:
        """
        CREATE TABLE apart (LIKE posts); ALTER TABLE posts ATTACH PARTITION apart FOR VALUES IN (3)
        """,
      state: .active, messagePart: ""),
    Change(
      sql: "ALTER TABLE posts ENABLE ALWAYS TRIGGER lethe_guard", state: .active, messagePart: ""),
    Change(
      sql: "ALTER TABLE ONLY posts DISABLE TRIGGER lethe_guard", state: .disabled,
      messagePart: "the trigger is disabled"),
    Change(
      sql: "ALTER TABLE posts_2 DISABLE TRIGGER lethe_guard", state: .incomplete,
      messagePart: "partition shop.posts_2: the trigger is disabled"),
    Change(
      sql: "ALTER TABLE posts_1 ENABLE REPLICA TRIGGER lethe_guard", state: .incomplete,
      messagePart: "partition shop.posts_1: the trigger fires for replicated rows only"),
    Change(
      sql: "ALTER TABLE posts RENAME post_id TO id", state: .outdated,
      messagePart: "the column post_id (bigint) was changed to id (bigint)"),
    Change(
      sql: """
        DO $$BEGIN EXECUTE (SELECT replace(pg_get_functiondef(oid), 'IF NOT FOUND', 'IF true')
                            FROM pg_proc WHERE proname LIKE 'guard\\_%'); END$$
        """, state: .broken, messagePart: "the guard's function was changed after the installation"),
    Change(
      sql: """
        DO $$BEGIN EXECUTE format('ALTER FUNCTION lethe.%I() SECURITY INVOKER',
                            (SELECT proname FROM pg_proc WHERE proname LIKE 'guard\\_%')); END$$
        """, state: .broken, messagePart: "the guard's function was changed after the installation"),
    Change(
      sql: """
        CREATE FUNCTION noting() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER a_note BEFORE INSERT OR UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION noting()
        """, state: .unsure,
      messagePart:
        "the trigger a_note of shop.posts (shop.noting) fires before the guard, and may send rows elsewhere"
    ),
    Change(
      sql: """
        CREATE FUNCTION noting() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER z_note BEFORE INSERT ON posts_2 FOR EACH ROW EXECUTE FUNCTION noting()
        """, state: .unsure,
      messagePart:
        "the trigger z_note of shop.posts_2 (shop.noting) fires after the guard, and may change the ID"
    ),
    Change(
      sql: """
        CREATE FUNCTION noting() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER a_note BEFORE UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION noting();
        CREATE TRIGGER b_note AFTER INSERT ON posts FOR EACH ROW EXECUTE FUNCTION noting();
        CREATE TRIGGER c_note BEFORE INSERT ON posts FOR EACH STATEMENT EXECUTE FUNCTION noting()
        """, state: .active, messagePart: ""),
    Change(
      sql: "CREATE RULE away AS ON INSERT TO posts WHERE post_id = 0 DO INSTEAD NOTHING",
      state: .unsure, messagePart: "the rule away of shop.posts"),
    Change(
      sql: """
        DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica',
                                  current_database()); END$$
        """, state: .unsure, messagePart: "session_replication_role is replica for the database"),
  ]

  @Test(arguments: changes)
  func guardListReportsCatalogChangesThatBreakAGuard(change: Change) async throws {
    try await GuardedShop.with(
      """
      CREATE TABLE posts (post_id bigint, day int) PARTITION BY LIST (day);
      CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN (1);
      CREATE TABLE posts_2 PARTITION OF posts FOR VALUES IN (2)
      """
    ) { shop in
      try await shop.install()
      try await shop.connection.runScript(change.sql)
      let all = try await shop.guards.all()
      #expect(all.map(\.state) == [change.state])
      let messages = all.flatMap(\.faults).map(\.message)
      #expect(messages.count == (change.messagePart.isEmpty ? 0 : 1), "\(messages)")
      #expect(
        change.messagePart.isEmpty || messages.allSatisfy { $0.contains(change.messagePart) },
        "\(messages)")
    }
  }

  @Test func newInheritingTablesAreReportedUntilTheyAreGuarded() async throws {
    try await GuardedShop.with("CREATE TABLE posts (post_id bigint)") { shop in
      try await shop.install()
      try await shop.connection.runScript("CREATE TABLE more () INHERITS (posts)")
      let all = try await shop.guards.all()
      #expect(all.map(\.state) == [.incomplete])
      #expect(all.first?.faults.map(\.message) == ["the inheriting table shop.more has no guard"])
      let proof = try await shop.prove()
      #expect(
        proof.leaks.allSatisfy { $0.contains("shop.more") } && !proof.leaks.isEmpty)
      _ = try await shop.guards.install(
        IngestGuard(
          table: TableName(schema: "shop", name: "more"), id: "post_id", type: .tweets,
          onReturn: .skip), tombstone: ProbeTombstone.make)
      #expect(try await shop.guards.all().map(\.state) == [.active, .active])
    }
  }

  @Test func aFunctionOwnerWhoCannotReadTombstonesIsReported() async throws {
    try await GuardedShop.with("CREATE TABLE posts (post_id bigint)") { shop in
      try await shop.install()
      let role = Identifier("keeper_\(shop.database.name)").quoted
      try await shop.connection.runScript(
        """
        CREATE ROLE \(trusted: role);
        DO $$BEGIN EXECUTE (SELECT format('ALTER FUNCTION lethe.%I() OWNER TO %I', proname, \
        'keeper_\(trusted: shop.database.name)') FROM pg_proc WHERE proname LIKE 'guard\\_%'); END$$
        """)
      let all = try await shop.guards.all()
      #expect(all.map(\.state) == [.broken])
      #expect(all.first?.faults.first?.message.contains("may not read lethe.tombstone") == true)
      try await shop.connection.runScript(
        SQL(trusted: try #require(all.first?.faults.first?.remedy)))
      #expect(try await shop.guards.all().map(\.state) == [.active])
      try await shop.connection.runScript(
        """
        REASSIGN OWNED BY \(trusted: role) TO CURRENT_USER; DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)
        """
      )
    }
  }

  @Test func anAcknowledgedTriggerIsNotReportedUntilItChanges() async throws {
    let function: SQL = "CREATE OR REPLACE FUNCTION noting() RETURNS trigger LANGUAGE plpgsql AS "
    try await GuardedShop.with(
      """
      CREATE TABLE posts (post_id bigint);
      \(function)'BEGIN RETURN NEW; END';
      CREATE TRIGGER a_note BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION noting();
      CREATE TRIGGER z_note BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION noting()
      """
    ) { shop in
      #expect(try await shop.install().isProven)
      #expect(try await shop.guards.all().first?.faults.count == 2)
      await #expect {
        try await shop.install(acknowledging: ["a_note", "no_note"])
      } throws: { "\($0)".contains("no trigger no_note") && "\($0)".contains("a_note, z_note") }
      try await shop.install(acknowledging: ["a_note", "z_note"])
      #expect(try await shop.guards.all().map(\.state) == [.active])
      // The acknowledgement is kept when the guard is installed again.
      try await shop.install(.raise)
      #expect(try await shop.guards.all().map(\.state) == [.active])
      try await shop.connection.runScript(function + "'BEGIN NEW.post_id := 7; RETURN NEW; END'")
      let faults = try #require(try await shop.guards.all().first?.faults)
      #expect(faults.map(\.state) == [.unsure, .unsure])
      #expect(faults.allSatisfy { $0.message.contains("was changed") })
      try await shop.connection.runScript(function + "'BEGIN RETURN NEW; END'")
      try await shop.install(acknowledging: [])
      #expect(try await shop.guards.all().first?.faults.count == 2)
    }
  }
}
