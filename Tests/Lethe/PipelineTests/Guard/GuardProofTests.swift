import Definitions
import Foundation
import Ledger
import PostgreSQL
import TestSupport
import Testing
import Vocabulary
import Warehouse

/// The proof of a guard tests the guard with rows. It tries every statement that can add a row to the table, and finds
/// the guard's faults.
@Suite struct GuardProofTests {
  struct Shape: Sendable, CustomTestStringConvertible {
    let name: String
    let tables: String
    /// The number of rows that the proof tries to add. For each leaf partition, it uses each kind of statement on the
    /// partition and on each parent table of the partition.
    let tries: Int
    /// A row with the ID $. The table accepts the row unless the ID has a tombstone. Nil if this test inserts no row.
    let row: String?
    var id = "7"

    var testDescription: String { name }
  }

  private static let shapes = [
    Shape(
      name: "a primary key", tables: "CREATE TABLE posts (post_id bigint PRIMARY KEY)", tries: 4,
      row: "(post_id) VALUES ($)"),
    Shape(
      name: "no key", tables: "CREATE TABLE posts (post_id bigint)", tries: 3,
      row: "(post_id) VALUES ($)"),
    Shape(
      name: "required columns",
      tables: """
        CREATE TABLE posts (post_id integer PRIMARY KEY, author bigint NOT NULL, text text NOT NULL CHECK (text <> ''),
                            size int GENERATED ALWAYS AS (length(text)) STORED NOT NULL, UNIQUE (author, post_id))
        """, tries: 4, row: "(post_id, author, text) VALUES ($, 1, 'x')"),
    Shape(
      name: "an identity column",
      tables: "CREATE TABLE posts (post_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
      tries: 4,
      row: "(post_id) OVERRIDING SYSTEM VALUE VALUES ($)"),
    Shape(
      name: "a foreign key",
      tables: """
        CREATE TABLE authors (id bigint PRIMARY KEY);
        CREATE TABLE posts (post_id numeric(20) PRIMARY KEY, author bigint NOT NULL DEFAULT 1 REFERENCES authors)
        """, tries: 4, row: nil),
    Shape(
      name: "a domain",
      tables: """
        CREATE DOMAIN post AS bigint CHECK (VALUE > 0);
        CREATE TABLE posts (post_id post PRIMARY KEY)
        """, tries: 4, row: "(post_id) VALUES ($)"),
    Shape(
      name: "a domain over a domain",
      tables: """
        CREATE DOMAIN number AS integer CHECK (VALUE > 0);
        CREATE DOMAIN post AS number;
        CREATE TABLE posts (post_id post PRIMARY KEY)
        """, tries: 4, row: "(post_id) VALUES ($)"),
    Shape(
      name: "a short text", tables: "CREATE TABLE posts (post_id varchar(4) PRIMARY KEY)", tries: 4,
      row: "(post_id) VALUES ('$')"),
    Shape(
      name: "a narrow number", tables: "CREATE TABLE posts (post_id numeric(5, 2) PRIMARY KEY)",
      tries: 4, row: "(post_id) VALUES ($)"),
    Shape(
      name: "a nondeterministic collation",
      tables: """
        CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE posts (post_id text COLLATE loose PRIMARY KEY)
        """, tries: 4, row: "(post_id) VALUES ('$')"),
    Shape(
      name: "partitions by month, and a default partition",
      tables: """
        CREATE TABLE posts (post_id bigint, at timestamptz NOT NULL, PRIMARY KEY (post_id, at))
          PARTITION BY RANGE (at);
        CREATE TABLE posts_1 PARTITION OF posts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE posts_2 PARTITION OF posts FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
        CREATE TABLE posts_3 PARTITION OF posts DEFAULT
        """, tries: 24, row: "(post_id, at) VALUES ($, '2026-01-15')"),
    Shape(
      name: "partitions by ranges of IDs",
      tables: """
        CREATE TABLE posts (post_id bigint PRIMARY KEY) PARTITION BY RANGE (post_id);
        CREATE TABLE posts_1 PARTITION OF posts FOR VALUES FROM (MINVALUE) TO (1000);
        CREATE TABLE posts_2 PARTITION OF posts FOR VALUES FROM (1000) TO (1000000000000000000);
        CREATE TABLE posts_3 PARTITION OF posts FOR VALUES FROM (1000000000000000000) TO (MAXVALUE);
        INSERT INTO posts SELECT generate_series(1000, 2000)
        """, tries: 24, row: "(post_id) VALUES ($)", id: "1007007007007007007"),
    Shape(
      name: "partitions by hashes of IDs",
      tables: """
        CREATE TABLE posts (post_id text PRIMARY KEY) PARTITION BY HASH (post_id);
        DO $$BEGIN FOR i IN 0..7 LOOP EXECUTE format(
          'CREATE TABLE posts_%s PARTITION OF posts FOR VALUES WITH (MODULUS 8, REMAINDER %s)', i, i);
        END LOOP; END$$
        """, tries: 64, row: "(post_id) VALUES ('$')"),
    Shape(
      name: "list partitions above hash partitions",
      tables: """
        CREATE TYPE kind AS ENUM ('a', 'b''"c');
        CREATE TABLE posts (post_id bigint, lang text, kind kind) PARTITION BY LIST (lang);
        CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN ('it''s, "so" \\ (x)', NULL) PARTITION BY HASH (kind);
        CREATE TABLE posts_11 PARTITION OF posts_1 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        CREATE TABLE posts_2 PARTITION OF posts DEFAULT PARTITION BY LIST (kind);
        CREATE TABLE posts_21 PARTITION OF posts_2 FOR VALUES IN ('b''"c');
        CREATE TABLE posts_22 PARTITION OF posts_2 FOR VALUES IN ('a', NULL)
        """, tries: 27, row: "(post_id, lang, kind) VALUES ($, NULL, 'a')"),
    Shape(
      name: "a range partition key of two columns",
      tables: """
        CREATE TABLE posts (post_id bigint, day date, shard uuid) PARTITION BY RANGE (day, post_id);
        CREATE TABLE posts_1 PARTITION OF posts FOR VALUES FROM ('2026-01-01', 5) TO ('2026-01-01', 9);
        CREATE TABLE posts_2 PARTITION OF posts FOR VALUES FROM ('2026-01-01', 9) TO (MAXVALUE, MAXVALUE)
        """, tries: 12, row: "(post_id, day) VALUES ($, '2026-01-01')"),
    Shape(
      name: "a partition key expression, with rows",
      tables: """
        CREATE TABLE posts (post_id bigint, at timestamp) PARTITION BY LIST (date_part('year', at));
        CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN (1999);
        INSERT INTO posts VALUES (1, '1999-05-05')
        """, tries: 6, row: "(post_id, at) VALUES ($, '1999-05-05')"),
    Shape(
      name: "a partition of another table",
      tables: """
        CREATE TABLE whole (post_id bigint, shard uuid) PARTITION BY HASH (shard);
        CREATE TABLE posts PARTITION OF whole FOR VALUES WITH (MODULUS 3, REMAINDER 1)
        """, tries: 3, row: nil),
  ]

  @Test(arguments: shapes, [IngestGuard.OnReturn.skip, .raise])
  func everyWayIntoEveryPartitionIsTriedAndNothingIsLeftBehind(
    shape: Shape, onReturn: IngestGuard.OnReturn
  ) async throws {
    let needsICU = shape.tables.contains("provider = icu")
    guard try await ServerFeature.icu.isAvailable(ifNeeded: needsICU) else { return }
    try await GuardedShop.with(SQL(trusted: shape.tables)) { shop in
      let rows = try await shop.value("SELECT count(*) FROM posts", as: Int.self)
      let proof = try await shop.install(onReturn)
      #expect(proof.isProven, "\(proof)")
      #expect(proof.keptOut == shape.tries)
      let before = try await shop.snapshot()
      #expect(try await shop.prove() == proof)
      #expect(try await shop.snapshot() == before)
      #expect(try await shop.guards.all().map(\.state) == [.active])
      // The test now inserts rows itself. The first one has the ID of an existing tombstone.
      guard let row = shape.row else { return }
      let insert: SQL = "INSERT INTO posts \(trusted: row.replacing("$", with: shape.id))"
      switch onReturn {
      case .skip: #expect(try await shop.connection.execute(insert) == 0)
      case .raise:
        let error = await #expect(throws: PostgreSQLError.self) {
          try await shop.connection.execute(insert)
        }
        #expect(error?.state?.rawValue == "23L01")
      }
      let other = shape.id == "7" ? "6" : "1007007007007007008"
      #expect(
        try await shop.connection.execute(
          "INSERT INTO posts \(trusted: row.replacing("$", with: other))") == 1)
      #expect(try await shop.value("SELECT count(*) FROM posts", as: Int.self) == rows + 1)
    }
  }

  // MARK: Rows that the guard does not stop

  struct Leak: Sendable, CustomTestStringConvertible {
    let name: String
    let tables: String
    /// The trigger or rule that the error names as the cause.
    let cause: String
    /// The table that got the row.
    let table: String

    var testDescription: String { name }
  }

  private static let trigger = """
    CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN %@ END$$;
    CREATE TRIGGER %@ BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION other()
    """

  private static func other(_ name: String, _ body: String) -> String {
    String(format: trigger, body, name)
  }

  private static let plain = "CREATE TABLE posts (post_id bigint PRIMARY KEY, text text);"
  private static let leaks = [
    Leak(
      name: "a trigger that sends rows elsewhere",
      tables: plain + "CREATE TABLE posts_2026 (LIKE posts);"
        + other("a_route", "INSERT INTO posts_2026 SELECT NEW.*; RETURN NULL;"),
      cause: "the trigger a_route of shop.posts", table: "shop.posts_2026"),
    Leak(
      name: "a trigger that changes the ID",
      tables: plain + other("a_negate", "NEW.post_id := -NEW.post_id; RETURN NEW;"),
      cause: "the trigger a_negate of shop.posts", table: "shop.posts"),
    Leak(
      name: "a rule",
      tables: plain
        + """
        CREATE TABLE posts_2026 (LIKE posts);
        CREATE RULE elsewhere AS ON INSERT TO posts DO INSTEAD INSERT INTO posts_2026 VALUES (NEW.*)
        """, cause: "the rule elsewhere of shop.posts", table: "shop.posts_2026"),
    Leak(
      name: "a trigger on one partition",
      tables: """
        CREATE TABLE posts (post_id bigint, day int) PARTITION BY LIST (day);
        CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN (1);
        CREATE TABLE posts_2 PARTITION OF posts FOR VALUES IN (2);
        CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
          NEW.post_id := NEW.post_id + 1; RETURN NEW; END$$;
        CREATE TRIGGER a_bump BEFORE INSERT ON posts_2 FOR EACH ROW EXECUTE FUNCTION other()
        """, cause: "the trigger a_bump of shop.posts_2", table: "shop.posts_2"),
  ]

  @Test(arguments: leaks, [true, false])
  func aGuardThatDoesNotWorkIsRemovedAndTheFormerGuardIsRestored(
    leak: Leak, isFirst: Bool
  ) async throws {
    // A former guard is installed before the trigger or the rule exists.
    let parts = leak.tables.components(separatedBy: "CREATE FUNCTION other()")
    let (before, after) =
      parts.count == 2
      ? (parts[0], "CREATE FUNCTION other()" + parts[1])
      : (
        leak.tables.components(separatedBy: "CREATE RULE")[0],
        "CREATE RULE" + leak.tables.components(separatedBy: "CREATE RULE")[1]
      )
    try await GuardedShop.with(SQL(trusted: before)) { shop in
      if !isFirst { try await shop.install(.raise) }
      try await shop.connection.runScript(SQL(trusted: after))
      let snapshot = try await shop.snapshot()
      let error = await #expect(throws: GuardError.self) { try await shop.install() }
      let text = "\(try #require(error))"
      #expect(text.contains("does not keep rows out"))
      #expect(text.contains(leak.cause), "\(text)")
      #expect(text.contains(leak.table), "\(text)")
      #expect(
        text.contains(isFirst ? "the guard was removed" : "the former guard was restored"))
      #expect(try await shop.snapshot() == snapshot)
    }
  }

  @Test(arguments: [
    ("DISABLE TRIGGER lethe_guard", "posts_2"), ("ENABLE REPLICA TRIGGER lethe_guard", "posts_1"),
    ("DISABLE TRIGGER USER", "posts_1"),
  ])
  func aLaterChangeToOnePartitionIsFound(change: String, partition: String) async throws {
    try await GuardedShop.with(
      """
      CREATE TABLE posts (post_id bigint PRIMARY KEY) PARTITION BY RANGE (post_id);
      CREATE TABLE posts_1 PARTITION OF posts FOR VALUES FROM (MINVALUE) TO (1000);
      CREATE TABLE posts_2 PARTITION OF posts DEFAULT
      """
    ) { shop in
      try await shop.install()
      try await shop.connection.runScript("ALTER TABLE \(trusted: partition) \(trusted: change)")
      let proof = try await shop.prove()
      #expect(proof.keptOut == 8)
      #expect(proof.leaks.count == 8)
      #expect(proof.leaks.allSatisfy { $0.contains("into shop.\(partition)") }, "\(proof)")
    }
  }

  @Test func theProofOfALockedTableWaitsForTheLockOnce() async throws {
    try await GuardedShop.with("CREATE TABLE posts (post_id bigint PRIMARY KEY)") { shop in
      try await shop.install()
      try await shop.database.withConnection { other in
        try await other.runScript("BEGIN; LOCK TABLE shop.posts IN ACCESS EXCLUSIVE MODE")
        let proof = try await shop.prove()
        #expect(proof.isLocked && !proof.isProven && proof.leaks.isEmpty)
        #expect(proof.notTried.count == 1)
        try await other.runScript("COMMIT")
      }
      #expect(try await shop.prove().isProven)
    }
  }

  @Test(arguments: [
    (
      "range values and NULL",
      """
      CREATE TABLE posts (post_id bigint, point int4range) PARTITION BY LIST (point);
      CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN ('[3,9)');
      CREATE TABLE posts_2 PARTITION OF posts FOR VALUES IN (NULL)
      """, 12, ""
    ),
    (
      "a partition key expression without rows",
      """
      CREATE TABLE posts (post_id bigint, at timestamp) PARTITION BY LIST (date_part('year', at));
      CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN (1755)
      """, 0, "shop.posts_1: no row that fits its partition constraint"
    ),
    (
      "a trigger that fails",
      """
      CREATE TABLE posts (post_id bigint, text text);
      CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        IF NEW.text IS NULL THEN RAISE 'no text of secret'; END IF; RETURN NEW; END$$;
      CREATE TRIGGER a_check BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION other()
      """, 0, "into shop.posts by INSERT: the function"
    ),
  ])
  func insertsThatTheProofCannotTryAreReported(
    _ name: String, tables: String, keptOut: Int, messagePart: String
  ) async throws {
    try await GuardedShop.with(SQL(trusted: tables)) { shop in
      let proof = try await shop.install()
      #expect(proof.keptOut == keptOut, "\(proof)")
      #expect(proof.isProven == messagePart.isEmpty, "\(proof)")
      let text = proof.notTried.joined(separator: "\n")
      #expect(text.contains(messagePart) || messagePart.isEmpty, "\(text)")
      #expect(!text.contains("secret"))
    }
  }

  @Test func aTableWithAForeignPartitionIsNotGuarded() async throws {
    try await GuardedShop.with(
      """
      CREATE FOREIGN DATA WRAPPER none;
      CREATE SERVER far FOREIGN DATA WRAPPER none;
      CREATE TABLE posts (post_id bigint, day int) PARTITION BY LIST (day);
      CREATE TABLE posts_1 PARTITION OF posts FOR VALUES IN (1);
      CREATE FOREIGN TABLE posts_2 PARTITION OF posts FOR VALUES IN (2) SERVER far
      """
    ) { shop in
      let error = await #expect(throws: GuardError.self) { try await shop.install() }
      #expect(error?.message.contains("shop.posts_2") == true)
      #expect(try await shop.guards.all() == [])
      let functions = try await shop.value(
        "SELECT count(*) FROM pg_proc WHERE proname LIKE 'guard\\_%'", as: Int.self)
      #expect(functions == 0)
    }
  }

  // MARK: The commands

  @Test func guardListProvesEachGuardAndItsExitCodeShowsTheResult() async throws {
    try await GuardedShop.with("CREATE TABLE posts (post_id bigint PRIMARY KEY)") { shop in
      @Sendable func lethe(_ arguments: String...) async throws -> Program.Result {
        try await Program.run(
          "lethe", ["guard"] + arguments + ["--output", "json"],
          environment: ["DATABASE_URL": shop.database.url])
      }
      let installed = try await lethe("install", "shop.posts")
      #expect(installed.code == 0, "\(installed.stderr)")
      #expect(installed.json["proven"] as? Bool == true)
      #expect(try await lethe("list", "--prove").code == 0)
      try await shop.database.withConnection { other in
        try await other.runScript("BEGIN; LOCK TABLE shop.posts IN ACCESS EXCLUSIVE MODE")
        #expect(try await lethe("list", "--prove").code == 75)
        try await other.runScript("COMMIT")
      }
      try await shop.connection.runScript("ALTER TABLE posts DISABLE TRIGGER lethe_guard")
      let listed = try await lethe("list")
      #expect(listed.code == 1)
      let error = try #require(listed.json["error"] as? [String: Any])
      #expect((error["message"] as? String)?.contains("shop.posts") == true, "\(error)")
      let line = try #require((listed.json["guards"] as? [[String: Any]])?.first)
      #expect(line["state"] as? String == "disabled")
      #expect((line["faults"] as? [[String: Any]])?.count == 1)
      let proven = try await lethe("list", "--prove")
      #expect(proven.code == 1)
      let passed = try #require((proven.json["guards"] as? [[String: Any]])?.first)
      #expect(passed["proven"] as? Bool == false)
      #expect((passed["came_through"] as? [String])?.count == 4)
    }
  }
}
