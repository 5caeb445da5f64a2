import Definitions
import PostgreSQL
import TestSupport
import Testing
import Vocabulary
import Warehouse

/// Tests of the key that identifies the rows of a table, and of whether the table's row versions can be trusted.
@Suite struct HoldKeyTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let tables: String
    /// The table that is looked up.
    let table: String
    let key: [String]
    let holdTable: String
    let isTrusted: Bool

    init(
      _ what: String, _ tables: String, table: String = "shop.posts", key: [String],
      holdTable: String = "shop.posts", isTrusted: Bool = true
    ) {
      testDescription = what
      self.tables = "CREATE SCHEMA shop;\n" + tables
      self.table = table
      self.key = key
      self.holdTable = holdTable
      self.isTrusted = isTrusted
    }
  }

  private static let columns = "a bigint NOT NULL, b text NOT NULL, c bigint, d int NOT NULL"
  private static let posts = "CREATE TABLE shop.posts (\(columns));"
  private static let foreign = """
    CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing;
    """
  private static let partitioned = """
    CREATE TABLE shop.posts (\(columns)) PARTITION BY LIST (d);
    CREATE TABLE shop.middle PARTITION OF shop.posts FOR VALUES IN (1, 2) PARTITION BY LIST (d);
    CREATE TABLE shop.leaf PARTITION OF shop.middle FOR VALUES IN (1);
    """
  private static let citus = """
    SET allow_system_table_mods = on;
    CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass PRIMARY KEY);
    RESET allow_system_table_mods;
    """

  private static let keys: [Case] = [
    Case("no index", posts, key: []),
    Case("a primary key", posts + "ALTER TABLE shop.posts ADD PRIMARY KEY (a)", key: ["a"]),
    Case(
      "a primary key in its own column order, with an included column",
      posts + "ALTER TABLE shop.posts ADD PRIMARY KEY (d, a) INCLUDE (c)", key: ["d", "a"]),
    Case(
      "a deferrable primary key", posts + "ALTER TABLE shop.posts ADD PRIMARY KEY (a) DEFERRABLE",
      key: ["a"]),
    Case(
      "a primary key and another index as the replica identity",
      posts + """
        ALTER TABLE shop.posts ADD PRIMARY KEY (a, b);
        CREATE UNIQUE INDEX one ON shop.posts (d);
        ALTER TABLE shop.posts REPLICA IDENTITY USING INDEX one
        """, key: ["a", "b"]),
    Case(
      "a replica identity and a smaller unique index",
      posts + """
        CREATE UNIQUE INDEX aaa ON shop.posts (a);
        CREATE UNIQUE INDEX zzz ON shop.posts (b, d);
        ALTER TABLE shop.posts REPLICA IDENTITY USING INDEX zzz
        """, key: ["b", "d"]),
    Case(
      "an index that is not the replica identity any more",
      posts + """
        CREATE UNIQUE INDEX aaa ON shop.posts (a);
        CREATE UNIQUE INDEX zzz ON shop.posts (b, d);
        ALTER TABLE shop.posts REPLICA IDENTITY USING INDEX zzz;
        ALTER TABLE shop.posts REPLICA IDENTITY FULL
        """, key: ["a"]),
    Case(
      "the first by name of the smallest unique indexes",
      posts + """
        CREATE UNIQUE INDEX aa ON shop.posts (a, b);
        CREATE UNIQUE INDEX z ON shop.posts (d);
        CREATE UNIQUE INDEX m ON shop.posts (b)
        """, key: ["b"]),
    Case(
      "a unique index over a column that may be NULL",
      posts + "CREATE UNIQUE INDEX ON shop.posts (a, c)", key: []),
    Case(
      "a unique index that includes a column that may be NULL",
      posts + "CREATE UNIQUE INDEX ON shop.posts (a) INCLUDE (c)", key: ["a"]),
    Case(
      "a partial unique index", posts + "CREATE UNIQUE INDEX ON shop.posts (a) WHERE d > 0",
      key: []),
    Case(
      "a unique index over an expression",
      posts + "CREATE UNIQUE INDEX ON shop.posts (a, lower(b))",
      key: []),
    Case(
      "a deferrable unique constraint",
      posts + "ALTER TABLE shop.posts ADD UNIQUE (a) DEFERRABLE", key: []),
    Case("an index that is not unique", posts + "CREATE INDEX ON shop.posts (a)", key: []),
    Case(
      "an invalid unique index",
      posts + """
        CREATE UNIQUE INDEX broken ON shop.posts (a);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.broken'::regclass
        """, key: []),
    Case(
      "a key after a dropped column",
      posts + "ALTER TABLE shop.posts DROP c; ALTER TABLE shop.posts ADD e int PRIMARY KEY",
      key: ["e"]),
    Case(
      "a table that another table inherits from",
      posts + """
        ALTER TABLE shop.posts ADD PRIMARY KEY (a);
        CREATE TABLE shop.old () INHERITS (shop.posts)
        """, key: []),
    Case(
      "a table that inherits from another table",
      posts + "CREATE TABLE shop.old (PRIMARY KEY (a, d)) INHERITS (shop.posts)",
      table: "shop.old", key: ["a", "d"], holdTable: "shop.old"),
  ]

  private static let partitionedKeys: [Case] = [
    Case(
      "a partitioned table", partitioned + "ALTER TABLE shop.posts ADD PRIMARY KEY (a, d)",
      key: ["a", "d"]),
    Case(
      "a partition of a table with a key",
      partitioned + "ALTER TABLE shop.posts ADD PRIMARY KEY (a, d)", table: "shop.leaf",
      key: ["a", "d"]),
    Case(
      "a partition that also has its own key",
      """
      CREATE TABLE shop.posts (\(columns), PRIMARY KEY (a, d)) PARTITION BY LIST (d);
      CREATE TABLE shop.leaf (d int NOT NULL, c bigint, b text NOT NULL UNIQUE, a bigint NOT NULL);
      ALTER TABLE shop.posts ATTACH PARTITION shop.leaf FOR VALUES IN (1)
      """, table: "shop.leaf", key: ["a", "d"]),
    Case(
      "a partition that is itself partitioned",
      partitioned + "ALTER TABLE shop.posts ADD PRIMARY KEY (a, d)",
      table: "shop.middle", key: ["a", "d"]),
    Case(
      "a partition with a key that its parent table does not have",
      partitioned + "ALTER TABLE shop.leaf ADD PRIMARY KEY (b)", table: "shop.leaf", key: ["b"],
      holdTable: "shop.leaf"),
    Case(
      "a partitioned table with a key that a partition does not have",
      partitioned + "ALTER TABLE ONLY shop.posts ADD PRIMARY KEY (a, d)", key: []),
  ]

  private static let versions: [Case] = [
    Case(
      "a foreign partition",
      partitioned + foreign
        + "CREATE FOREIGN TABLE shop.far PARTITION OF shop.middle FOR VALUES IN (2) SERVER far",
      key: [], isTrusted: false),
    Case(
      "a partition next to a foreign partition",
      partitioned + foreign
        + """
        CREATE FOREIGN TABLE shop.far PARTITION OF shop.middle FOR VALUES IN (2) SERVER far;
        ALTER TABLE shop.leaf ADD PRIMARY KEY (a)
        """, table: "shop.leaf", key: ["a"], holdTable: "shop.leaf"),
    Case(
      "a foreign table that inherits from a table",
      posts + foreign + "CREATE FOREIGN TABLE shop.far () INHERITS (shop.posts) SERVER far",
      key: [], isTrusted: false),
    Case(
      "a distributed table",
      posts + citus + """
        ALTER TABLE shop.posts ADD PRIMARY KEY (a);
        INSERT INTO pg_catalog.pg_dist_partition VALUES ('shop.posts')
        """, key: ["a"], isTrusted: false),
    Case(
      "a table next to a distributed table",
      posts + citus + """
        ALTER TABLE shop.posts ADD PRIMARY KEY (a); CREATE TABLE shop.other ();
        INSERT INTO pg_catalog.pg_dist_partition VALUES ('shop.other')
        """, key: ["a"]),
    Case(
      "a distributed partition",
      partitioned + citus + """
        ALTER TABLE shop.posts ADD PRIMARY KEY (a, d);
        INSERT INTO pg_catalog.pg_dist_partition VALUES ('shop.leaf')
        """, key: ["a", "d"], isTrusted: false),
    Case(
      "another access method with the handler of heap",
      """
      CREATE ACCESS METHOD pile TYPE TABLE HANDLER heap_tableam_handler;
      CREATE TABLE shop.posts (\(columns), PRIMARY KEY (a)) USING pile
      """, key: ["a"]),
  ]

  private static func lookUp(
    _ testCase: Case, on connection: Connection, name: String? = nil
  ) async throws -> WarehouseTable? {
    let table = try #require(TableName(name ?? testCase.table))
    let dataset = Dataset(
      name: "posts", type: .tweets, table: table, id: "a", condition: nil, chunkIDsMax: 1,
      chunkBytesMax: 20, actions: [:], targets: [], tombstones: true, batch: nil)
    let definition = Definition(
      name: "keys", limits: RedactionLimits(maxRedactedPercent: 1, maxRedactedRows: 1),
      datasets: [dataset])
    return try await Catalog(of: definition, on: connection).table(table)
  }

  @Test(arguments: keys + partitionedKeys + versions)
  func theKeyOfATableIsFound(testCase: Case) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(SQL(trusted: testCase.tables))
        let table = try #require(try await Self.lookUp(testCase, on: connection))
        #expect(table.holdKey.map(\.name) == testCase.key)
        #expect("\(table.holdTable)" == testCase.holdTable)
        #expect(table.hasTrustedVersions == testCase.isTrusted)
        #expect("\(table.resolvedName)" == testCase.table)
        // The name without the schema refers to the same table.
        try await connection.runScript("SET search_path = shop, public")
        let name = String(testCase.table.dropFirst("shop.".count))
        let short = try #require(try await Self.lookUp(testCase, on: connection, name: name))
        #expect("\(short.name)" == name)
        #expect("\(short.resolvedName)" == testCase.table)
        #expect("\(short.holdTable)" == testCase.holdTable)
        #expect(short.holdKey.map(\.name) == testCase.key)
      }
    }
  }

  /// Rows are restored through the table that the hold names. So a hold names the parent table only if the role can
  /// read and update rows through the parent table.
  @Test(
    arguments: [
      ("SELECT, UPDATE ON shop.posts, shop.leaf", "", "shop.posts"),
      ("SELECT ON shop.posts, shop.leaf", "", "shop.leaf"),
      ("UPDATE ON shop.posts, shop.leaf", "", "shop.leaf"),
      (
        "SELECT, UPDATE ON shop.posts, shop.leaf",
        "ALTER TABLE shop.posts ENABLE ROW LEVEL SECURITY",
        "shop.leaf"
      ),
      (
        "SELECT, UPDATE ON shop.posts, shop.leaf",
        "CREATE RULE kept AS ON UPDATE TO shop.posts DO INSTEAD NOTHING", "shop.leaf"
      ),
    ] as [(String, String, String)])
  func aHoldNamesThePartitionIfTheParentTableCannotBeUpdated(
    grants: String, setupSQL: String, holdTable: String
  ) async throws {
    let testCase = Case("", Self.partitioned, table: "shop.leaf", key: [])
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let role = Identifier(database.name + "_role").quoted
        try await connection.runScript(
          """
          \(trusted: testCase.tables)
          ALTER TABLE shop.posts ADD PRIMARY KEY (a, d);
          CREATE ROLE \(trusted: role); GRANT USAGE ON SCHEMA shop TO \(trusted: role);
          GRANT \(trusted: grants) TO \(trusted: role); \(trusted: setupSQL);
          SET ROLE \(trusted: role)
          """)
        let table = try await Self.lookUp(testCase, on: connection)
        try await connection.runScript(
          "RESET ROLE; DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
        #expect(table.map { "\($0.holdTable)" } == holdTable)
        #expect(table?.holdKey.map(\.name) == ["a", "d"])
      }
    }
  }

  // MARK: Findings of check

  struct Refusal: Sendable, CustomTestStringConvertible {
    let tables: String
    let restore: String
    /// Nil if the definition is accepted.
    let message: String?
    let remedy: String

    var testDescription: String { "\(restore): \(message ?? "accepted")" }

    init(_ tables: String, _ restore: String, _ message: String?, remedy: String = "") {
      self.tables = tables
      self.restore = restore
      self.message = message
      self.remedy = remedy
    }
  }

  private static let noKey = "ALTER TABLE shop.posts DROP CONSTRAINT posts_pkey;"
  private static let indexed = "CREATE INDEX ON shop.posts (post_id);"
  private static let keyed = "PRIMARY KEY (post_id, visibility)"
  private static let partitionedPosts = """
    DROP TABLE shop.posts;
    CREATE TABLE shop.posts (
      post_id bigint NOT NULL, ingested_at timestamptz, visibility text NOT NULL, latitude float8)
    PARTITION BY RANGE (post_id);
    CREATE INDEX ON shop.posts (post_id);
    CREATE TABLE shop.near PARTITION OF shop.posts FOR VALUES FROM (1) TO (9);
    """
  private static let foreignPartition =
    foreign
    + "CREATE FOREIGN TABLE shop.far PARTITION OF shop.posts DEFAULT SERVER far;"
  private static let distributed =
    citus
    + "INSERT INTO pg_catalog.pg_dist_partition VALUES ('shop.posts');"

  private static let refusals: [Refusal] = [
    Refusal(
      noKey + indexed, "former", "shop.posts has no key",
      remedy: "unique index"),
    Refusal(
      noKey + indexed, "{visibility: shown}", "shop.posts has no key",
      remedy: "restore: none"),
    Refusal(
      noKey + indexed, "{if_written: ignore}", "shop.posts has no key",
      remedy: "restore: none"),
    Refusal(noKey + indexed, "none", nil),
    Refusal(
      noKey
        + "ALTER TABLE shop.posts ALTER post_id DROP NOT NULL; CREATE UNIQUE INDEX ON shop.posts (post_id);",
      "former",
      "shop.posts has no key", remedy: "NOT NULL"),
    Refusal(
      noKey + """
        ALTER TABLE shop.posts ALTER post_id SET NOT NULL;
        CREATE UNIQUE INDEX ON shop.posts (post_id);
        """, "former", nil),
    Refusal(
      noKey + "ALTER TABLE shop.posts ADD \(keyed);", "former",
      "protect sets shop.posts.visibility, which is part of the key (post_id, visibility)",
      remedy: "restore: none"),
    Refusal(
      noKey + "ALTER TABLE shop.posts ADD \(keyed);", "{if_written: ignore}",
      "protect sets shop.posts.visibility, which is part of the key", remedy: "restore: none"),
    Refusal(noKey + "ALTER TABLE shop.posts ADD \(keyed);", "none", nil),
    Refusal(
      "CREATE TABLE shop.old () INHERITS (shop.posts);", "former",
      "shop.posts has no key", remedy: "inherit"),
    Refusal("CREATE TABLE shop.old () INHERITS (shop.posts);", "none", nil),
    Refusal(
      partitionedPosts + foreignPartition, "former",
      "shop.posts has no key that identifies the rows that protect hides: shop.far is a foreign table",
      remedy: "restore: none"),
    Refusal(partitionedPosts + foreignPartition, "none", nil),
    Refusal(partitionedPosts + "ALTER TABLE shop.posts ADD PRIMARY KEY (post_id);", "former", nil),
    Refusal(
      distributed, "former", "shop.posts is distributed over other servers",
      remedy: "{if_written: ignore}"),
    Refusal(
      distributed, "{visibility: shown}", "shop.posts is distributed over other servers",
      remedy: "restore: none"),
    Refusal(
      distributed, "{visibility: shown, if_written: wait}",
      "shop.posts is distributed over other servers", remedy: "restore: none"),
    Refusal(distributed, "{visibility: shown, if_written: ignore}", nil),
    Refusal(distributed, "{if_written: ignore}", nil),
    Refusal(distributed, "none", nil),
  ]

  @Test(arguments: refusals)
  func aRestoreThatCannotWorkIsRefused(refusal: Refusal) async throws {
    let yaml = CatalogCheckTests.yaml.editing(
      "restore: {visibility: shown}", to: "restore: \(refusal.restore)"
    ).editing("where: \"ingested_at < now()\"", to: "tombstones: true")
    try await withTestDatabase { database in
      let found = try await CatalogCheckTests.findings(
        yaml, on: database, before: CatalogCheckTests.tables + SQL(trusted: refusal.tables))
      guard let message = refusal.message else {
        #expect(found == [])
        return
      }
      #expect(found.map(\.line) == [15], "\(found)")
      #expect(found.first?.severity == .error)
      #expect(found.first?.message.hasPrefix(message) == true, "\(found)")
      #expect(found.first?.remedy.contains(refusal.remedy) == true, "\(found)")
    }
  }
}
