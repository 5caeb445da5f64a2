import Definitions
import Failures
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Vocabulary
import Warehouse

/// The ingest guard: a trigger that keeps rows with tombstoned IDs out of a table.
@Suite struct GuardTests {
  private static func with(
    _ script: SQL = "", _ body: (TestDatabase, Connection) async throws -> Void
  ) async throws {
    try await withTestDatabase(.ledger, .warehouse) { database in
      try await database.withConnection { connection in
        try await connection.runScript(
          """
          INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
          VALUES ('tweets', 7, 'deleted', 1, '2026-01-02T03:04:05Z'),
                 ('users', 8, 'suspended', 1, '2026-01-02T03:04:05Z');
          SET search_path = public;
          \(script)
          """)
        try await body(database, connection)
      }
    }
  }

  private static let posts = TableName(schema: "warehouse", name: "posts")

  @discardableResult
  private static func install(
    _ connection: Connection, _ table: TableName = posts, id: String = "post_id",
    type: JobType = .tweets, onReturn: IngestGuard.OnReturn = .skip
  ) async throws -> GuardProof {
    try await IngestGuards(connection: connection, lockTimeoutSeconds: 3)
      .install(
        IngestGuard(table: table, id: id, type: type, onReturn: onReturn),
        tombstone: ProbeTombstone.make)
  }

  private static func insert(_ ids: String, _ rest: String = "") -> String {
    """
    INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
    SELECT id, 1, 'new', now() FROM unnest(ARRAY[\(ids)]) AS id \(rest)
    """
  }

  private static func ids(
    _ connection: Connection, _ table: String = "warehouse.posts", _ column: String = "post_id"
  ) async throws -> String? {
    try await connection.query(
      """
      SELECT string_agg(\(trusted: column)::text, ' ' ORDER BY \(trusted: column)::text)
      FROM \(trusted: table)
      """
    ).onlyRow(as: String?.self)
  }

  @Test func everyStatementThatWouldInsertADeletedRowSkipsIt() async throws {
    try await Self.with { _, connection in
      try await Self.install(connection)
      #expect(try await connection.execute(SQL(trusted: Self.insert("6, 7, 8"))) == 2)
      let copied = try await connection.withCopyIn(
        "COPY warehouse.posts (post_id, author_id, text, created_at) FROM STDIN"
      ) { try await $0.write(Array("7\t1\tx\t2026-01-01Z\n9\t1\tx\t2026-01-01Z\n".utf8)) }
      #expect(copied == 1)
      #expect(
        try await connection.execute("UPDATE warehouse.posts SET post_id = 7 WHERE post_id = 8")
          == 0)
      #expect(try await Self.ids(connection) == "6 8 9")
    }
  }

  @Test func anUpsertSkipsAnExistingRowButOtherUpdatesChangeIt() async throws {
    try await Self.with(SQL(trusted: Self.insert("7"))) { _, connection in
      try await Self.install(connection)
      let upsert = Self.insert("6, 7", "ON CONFLICT (post_id) DO UPDATE SET text = 'upserted'")
      #expect(try await connection.execute(SQL(trusted: upsert)) == 1)
      let text: SQL = "SELECT text FROM warehouse.posts WHERE post_id = 7"
      #expect(try await connection.query(text).onlyRow(as: String.self) == "new")
      #expect(
        try await connection.execute(
          "UPDATE warehouse.posts SET text = 'a', post_id = post_id WHERE post_id = 7") == 1)
      #expect(
        try await connection.execute("UPDATE warehouse.posts SET text = 'b' WHERE post_id = 7")
          == 1)
    }
  }

  @Test func theGuardIsNotCalledForAnUpdateOfOtherColumns() async throws {
    try await Self.with(SQL(trusted: Self.insert("6"))) { _, connection in
      try await Self.install(connection)
      let plan = try await connection.query(
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) UPDATE warehouse.posts SET text = 'b'"
      ).rows(as: String.self).joined()
      #expect(!plan.contains("lethe_guard"))
      let named = try await connection.query(
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) UPDATE warehouse.posts SET post_id = 5"
      ).rows(as: String.self).joined()
      #expect(named.contains("lethe_guard"))
    }
  }

  @Test func theErrorOfARefusedRowContainsTableIDReasonAndTime() async throws {
    try await Self.with { _, connection in
      try await Self.install(connection, onReturn: .raise)
      await #expect {
        try await connection.execute(SQL(trusted: Self.insert("6, 7")))
      } throws: { error in
        let error = try #require(error as? PostgreSQLError)
        #expect(error.state?.rawValue == "23L01")
        #expect(error.message == "ID 7 is tombstoned and must not come back into warehouse.posts")
        #expect(error.detail == "Its tombstone: deleted, since 2026-01-02T03:04:05Z.")
        #expect(error.table == "warehouse.posts")
        return error.constraint == "lethe_guard"
      }
      #expect(try await Self.ids(connection) == nil)
    }
  }

  @Test(arguments: [
    ("bigint", "'7', '8'", "8"),
    ("integer", "'7', '8'", "8"),
    ("numeric", "'7.0', '7.5', '-7', '1e30'", "-7 1000000000000000000000000000000 7.5"),
    ("text", "'7', '07', 'seven', '99999999999999999999'", "99999999999999999999 seven"),
    ("varchar(30)", "'7', ' 7', '70', NULL", "70"),
  ])
  func idsOfEveryTypeAreCheckedAndOtherValuesAreAccepted(
    type: String, values: String, left: String
  ) async throws {
    try await Self.with("CREATE TABLE kept (id \(trusted: type))") { _, connection in
      try await Self.install(connection, TableName(schema: nil, name: "kept"), id: "id")
      let rows = values.split(separator: ", ").map { "(\($0)::\(type))" }.joined(separator: ", ")
      try await connection.runScript("INSERT INTO kept VALUES \(trusted: rows)")
      #expect(try await Self.ids(connection, "kept", "id") == left)
    }
  }

  @Test func namesThatNeedQuotesAreQuoted() async throws {
    let table = TableName(schema: "My \"own\" $$", name: "Posts; it's \\ all")
    let column = "post's \\ \"ID\" $guard$"
    let sql = Identifier(column).quoted
    try await Self.with(
      """
      CREATE SCHEMA \(identifier: table.schema ?? ""); CREATE TABLE \(trusted: table.quoted) (\(trusted: sql) bigint)
      """
    ) { _, connection in
      for onReturn in [IngestGuard.OnReturn.raise, .skip] {
        try await Self.install(connection, table, id: column, onReturn: onReturn)
        let all = try await IngestGuards(connection: connection, lockTimeoutSeconds: 3).all()
        #expect(all.map(\.guarding.table) == [table])
        #expect(all.map(\.guarding.id) == [column])
        #expect(all.map(\.state) == [.active])
      }
      #expect(
        try await connection.execute("INSERT INTO \(trusted: table.quoted) VALUES (7), (8)") == 1)
    }
  }

  @Test func anInsertingRoleNeedsNoLedgerPrivilegesAndCannotCallTheFunction() async throws {
    try await Self.with { database, connection in
      try await Self.install(connection)
      let role = Identifier("ingest_\(database.name)").quoted
      try await connection.runScript(
        """
        CREATE ROLE \(trusted: role);
        GRANT USAGE ON SCHEMA warehouse TO \(trusted: role);
        GRANT SELECT, INSERT, TRIGGER ON warehouse.posts TO \(trusted: role);
        SET ROLE \(trusted: role);
        """)
      #expect(try await connection.execute(SQL(trusted: Self.insert("6, 7"))) == 1)
      await #expect(throws: PostgreSQLError.self) {
        try await connection.query("SELECT FROM lethe.tombstone")
      }
      // The function has its own search path. So a role cannot replace an object that the function uses.
      try await connection.runScript("RESET ROLE")
      let settings = try await connection.query(
        """
        SELECT prosecdef AND proconfig @> ARRAY['search_path=pg_catalog, pg_temp']
           AND NOT has_function_privilege(\("ingest_\(database.name)"), p.oid, 'EXECUTE')
        FROM pg_proc AS p WHERE proname LIKE 'guard\\_%'
        """
      ).onlyRow(as: Bool.self)
      #expect(settings)
      try await connection.runScript("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
    }
  }

  @Test func aPartitionedTableIsGuardedInEveryExistingAndNewPartition() async throws {
    let partitioned = TableName(schema: "warehouse", name: "p")
    let first = TableName(schema: "warehouse", name: "p1")
    try await Self.with(
      """
      CREATE TABLE warehouse.p (id bigint NOT NULL, day int NOT NULL) PARTITION BY LIST (day);
      CREATE TABLE warehouse.p1 PARTITION OF warehouse.p FOR VALUES IN (1)
      """
    ) { _, connection in
      let guards = IngestGuards(connection: connection, lockTimeoutSeconds: 3)
      // The guard of the parent table replaces the guard of the partition.
      try await Self.install(connection, first, id: "id", onReturn: .raise)
      try await Self.install(connection, partitioned, id: "id")
      try await connection.runScript(
        "CREATE TABLE warehouse.p2 PARTITION OF warehouse.p FOR VALUES IN (2)")
      let rows = "VALUES (7, 1), (7, 2), (9, 1), (9, 2)"
      #expect(try await connection.execute("INSERT INTO warehouse.p \(trusted: rows)") == 2)
      #expect(try await connection.execute("INSERT INTO warehouse.p2 VALUES (7, 2)") == 0)
      #expect(try await guards.all().map(\.guarding.table) == [partitioned])
      for change in [
        { _ = try await Self.install(connection, first, id: "id") },
        { _ = try await guards.remove(from: first) },
      ] {
        await #expect {
          try await change()
        } throws: { error in
          "\(error)".contains("its guard belongs to warehouse.p\n")
            && "\(error)".contains("name warehouse.p instead")
        }
      }
      #expect(try await guards.remove(from: partitioned))
      #expect(try await connection.execute("INSERT INTO warehouse.p \(trusted: rows)") == 4)
      #expect(try await Self.functions(connection) == 0)
    }
  }

  private static func functions(_ connection: Connection) async throws -> Int {
    try await connection.query("SELECT count(*) FROM pg_proc WHERE proname LIKE 'guard\\_%'")
      .onlyRow(as: Int.self)
  }

  @Test func aGuardCanBeReplacedListedAndRemovedCompletely() async throws {
    try await Self.with("CREATE TABLE gone (id bigint)") { _, connection in
      let guards = IngestGuards(connection: connection, lockTimeoutSeconds: 3)
      try await Self.install(connection, TableName(schema: nil, name: "gone"), id: "id")
      try await connection.runScript("DROP TABLE gone")
      try await Self.install(connection)
      try await Self.install(connection, id: "author_id", type: .users, onReturn: .raise)
      #expect(try await Self.functions(connection) == 1)
      let all = try await guards.all()
      #expect(
        all == [
          InstalledGuard(
            guarding: IngestGuard(
              table: Self.posts, id: "author_id", type: .users, onReturn: .raise), faults: [])
        ])
      #expect(try await connection.execute(SQL(trusted: Self.insert("7"))) == 1)
      await #expect(throws: PostgreSQLError.self) {
        try await connection.execute("UPDATE warehouse.posts SET author_id = 8")
      }
      try await connection.runScript("ALTER TABLE warehouse.posts DISABLE TRIGGER lethe_guard")
      #expect(try await guards.all().map(\.state) == [.disabled])
      try await connection.runScript("ALTER TABLE warehouse.posts RENAME author_id TO author")
      #expect(try await guards.all().map(\.state) == [.outdated])
      #expect(try await guards.remove(from: Self.posts))
      #expect(try await guards.remove(from: Self.posts) == false)
      #expect(try await Self.functions(connection) == 0)
    }
  }

  @Test func installingOnATableInUseTimesOutAndWritersContinue() async throws {
    try await Self.with { database, connection in
      try await database.withConnection { writer in
        try await writer.runScript("BEGIN; \(trusted: Self.insert("1"))")
        let guards = IngestGuards(connection: connection, lockTimeoutSeconds: 0.05)
        await #expect {
          _ = try await guards.install(
            IngestGuard(table: Self.posts, id: "post_id", type: .tweets, onReturn: .skip),
            tombstone: ProbeTombstone.make)
        } throws: { error in
          let error = try #require(error as? GuardError, "\(error)")
          #expect(error.message.contains("warehouse.posts could not be locked within 0.05 s"))
          return error.disposition == .temporary && error.remedy.contains("--lock-timeout")
        }
        try await writer.runScript("\(trusted: Self.insert("7")); COMMIT")
      }
      #expect(try await Self.functions(connection) == 0)
      #expect(try await Self.ids(connection) == "1 7")
    }
  }

  @Test(arguments: [
    ("a_view", "id", "a view"), ("a_copy", "id", "a materialized view"),
    ("elsewhere", "id", "a foreign table"), ("nowhere", "id", "there is no table nowhere"),
    ("plain", "no", "has no column no"), ("plain", "at", "which cannot store IDs"),
    ("taken", "id", "a trigger lethe_guard that is not Lethe's"),
  ])
  func aTableThatCannotBeGuardedIsRefusedWithAReason(
    table: String, id: String, reason: String
  ) async throws {
    try await Self.with(
      """
      CREATE TABLE plain (id bigint, at timestamptz);
      CREATE TABLE taken (id bigint);
      CREATE TRIGGER lethe_guard BEFORE UPDATE ON taken
        FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
      CREATE VIEW a_view AS TABLE plain;
      CREATE MATERIALIZED VIEW a_copy AS TABLE plain;
      CREATE FOREIGN DATA WRAPPER none;
      CREATE SERVER far FOREIGN DATA WRAPPER none;
      CREATE FOREIGN TABLE elsewhere (id bigint) SERVER far
      """
    ) { _, connection in
      await #expect {
        try await Self.install(connection, TableName(schema: nil, name: table), id: id)
      } throws: { error in
        let error = try #require(error as? GuardError, "\(error)")
        return error.message.contains(reason) && error.disposition != .temporary
      }
      let left = try await Self.functions(connection)
      #expect(left == 0)
    }
  }

  @Test func theErrorNamesTheMissingPrivileges() async throws {
    try await Self.with { database, connection in
      let role = Identifier("guest_\(database.name)").quoted
      try await connection.runScript(
        """
        CREATE ROLE \(trusted: role); GRANT USAGE ON SCHEMA warehouse TO \(trusted: role);
        SET ROLE \(trusted: role)
        """
      )
      await #expect {
        try await Self.install(connection)
      } throws: { error in
        "\(error)".contains("permission denied for schema lethe")
          && "\(error)".contains("who owns warehouse.posts")
      }
      try await connection.runScript(
        "RESET ROLE; DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
    }
  }

  @Test func aRunWorksOnGuardedTablesAndItsDeletedRowsStayOut() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      for (table, id, type, onReturn) in [
        ("posts", "post_id", "tweets", "skip"), ("post_media", "post_id", "tweets", "skip"),
        ("reposts", "reposted_post_id", "tweets", "raise"), ("users", "user_id", "users", "skip"),
      ] {
        let result = try await Program.run(
          "lethe",
          [
            "guard", "install", "warehouse.\(table)", "--id", id, "--type", type, "--on-return",
            onReturn,
          ], environment: fixture.environment)
        #expect(result.code == 0, "\(result.stderr)")
      }
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
      // The ingest delivers all rows again.
      try await fixture.execute(
        """
        INSERT INTO warehouse.users SELECT * FROM before.users ON CONFLICT DO NOTHING;
        INSERT INTO warehouse.posts SELECT * FROM before.posts ON CONFLICT DO NOTHING;
        INSERT INTO warehouse.post_media SELECT * FROM before.post_media ON CONFLICT DO NOTHING
        """)
      await #expect(throws: PostgreSQLError.self) {
        try await fixture.execute("INSERT INTO warehouse.reposts SELECT * FROM before.reposts")
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func theGuardCommandsReportWhatTheyDid() async throws {
    try await Self.with { database, connection in
      func lethe(_ arguments: String...) async throws -> Program.Result {
        try await Program.run(
          "lethe", ["guard"] + arguments, environment: ["DATABASE_URL": database.url])
      }
      #expect(try await lethe("list").stdout == "no table is guarded\n")
      let installed = try await lethe("install", "warehouse.posts", "--output", "json")
      #expect(installed.code == 0, "\(installed.stderr)")
      #expect(installed.json["id"] as? String == "post_id")
      #expect(installed.json["on_return"] as? String == "skip")
      let listed = try await lethe("list", "--output", "json")
      let guards = try #require(listed.json["guards"] as? [[String: Any]])
      #expect(guards.map { $0["table"] as? String } == ["warehouse.posts"])
      #expect(guards.map { $0["state"] as? String } == ["active"])
      let compound = try await lethe("install", "warehouse.post_media")
      #expect(compound.code == 1)
      #expect(compound.stderr.contains("--id COLUMN"), "\(compound.stderr)")
      #expect(try await lethe("install", "a b").code == 2)
      try await connection.runScript("BEGIN; LOCK TABLE warehouse.posts IN ROW EXCLUSIVE MODE")
      #expect(try await lethe("remove", "warehouse.posts", "--lock-timeout", "0.05").code == 75)
      try await connection.runScript("COMMIT")
      #expect(try await lethe("remove", "warehouse.posts").code == 0)
      #expect(try await lethe("remove", "warehouse.posts").code == 1)
    }
  }
}

/// Tables on which a guard's trigger is not called for every new row.
@Suite struct UnguardableTableTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let tables: String
    let messagePart: String

    var testDescription: String { name }
  }

  private static let cases = [
    Case(
      name: "a generated ID",
      tables: """
        CREATE TABLE shop.posts (
          raw jsonb, post_id bigint GENERATED ALWAYS AS ((raw ->> 'id')::bigint) STORED)
        """, messagePart: "is generated"),
    Case(
      name: "a parent that others inherit from",
      tables: """
        CREATE TABLE shop.posts (post_id bigint);
        CREATE TABLE shop.posts_1 () INHERITS (shop.posts)
        """, messagePart: "other tables inherit from"),
  ]

  @Test(arguments: cases)
  func aTableOnWhichTheTriggerMissesRowsIsRefused(table: Case) async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        try await connection.runScript("CREATE SCHEMA shop; \(trusted: table.tables)")
        let error = await #expect(throws: GuardError.self) {
          _ = try await IngestGuards(connection: connection, lockTimeoutSeconds: 3)
            .install(
              IngestGuard(
                table: TableName(schema: "shop", name: "posts"), id: "post_id", type: .tweets,
                onReturn: .skip), tombstone: ProbeTombstone.make)
        }
        #expect("\(error!)".contains(table.messagePart))
      }
    }
  }
}
