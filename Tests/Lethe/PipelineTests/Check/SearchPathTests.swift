import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// Lethe uses the intended tables, functions and types, no matter which search path the database has.
@Suite struct SearchPathTests {
  private static func setSearchPath(_ path: String, _ nights: NightlyFixture) async throws {
    try await nights.execute(
      """
      DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET search_path = \(trusted: path)', current_database());
      END $$
      """)
  }

  private static func useUnqualifiedName(_ nights: NightlyFixture) throws {
    try nights.edit("table: shop.posts\n    id: post_id", to: "table: posts\n    id: post_id")
  }

  /// The schema `before` has tables with the same names and the same rows as `shop`. After the export, the search path
  /// changes from `shop` to `before`.
  @Test func aRunKeepsTheTablesThatItStartedWith() async throws {
    try await NightlyFixture.with(
      Shop(restore: "former"),
      "INSERT INTO posts (post_id, author_id) SELECT p, 1 FROM generate_series(1, 9) AS p"
    ) { nights in
      try Self.useUnqualifiedName(nights)
      try await Self.setSearchPath("shop", nights)
      nights.answer([
        .init(type: "tweets", id: 3): "deleted", .init(type: "tweets", id: 4): "protected",
      ])
      try await nights.withRuntime { try await nights.collect($0) }
      try await Self.setSearchPath("before", nights)
      _ = try await nights.withRuntime { try await $0.apply() }
      #expect(try await nights.rows("SELECT post_id FROM before.posts").count == 9)
      try await nights.changeCopy("DELETE FROM posts WHERE post_id = 3")
      try await nights.expectRows()
    }
  }

  /// The default search path begins with the schema that has the name of the role. For a role `lethe`, this is the
  /// schema of the ledger. The test sets such a search path.
  @Test func aTableOfTheLedgerIsNotUsedAsAWarehouseTable() async throws {
    try await NightlyFixture.with(
      Shop(),
      "INSERT INTO posts (post_id, author_id) SELECT p, 1 FROM generate_series(1, 9) AS p"
    ) { nights in
      try Self.useUnqualifiedName(nights)
      try await nights.execute("CREATE TABLE lethe.posts (post_id bigint PRIMARY KEY)")
      try await Self.setSearchPath("lethe, shop", nights)
      nights.answer([.init(type: "tweets", id: 3): "deleted"])
      _ = try await nights.withRuntime { try await $0.run() }
      #expect(try await nights.rows("SELECT post_id FROM shop.posts").count == 8)
    }
  }

  /// The foreign key refers to the partitioned table, and the definition names a partition. Lethe finds the rows that
  /// the foreign key protects before it changes a row. Lethe applies everything else.
  @Test func foreignKeysToAPartitionedTableProtectItsPartitionsRows() async throws {
    try await NightlyFixture.with(
      Shop(
        more: """
          CREATE TABLE whole (LIKE posts INCLUDING DEFAULTS, PRIMARY KEY (post_id)) PARTITION BY RANGE (post_id);
          DROP TABLE posts;
          CREATE TABLE posts PARTITION OF whole FOR VALUES FROM (0) TO (100);
          CREATE TABLE media (post_id bigint REFERENCES whole);
          CREATE INDEX ON whole (author_id);
          """),
      """
      INSERT INTO posts (post_id, author_id) SELECT p, 1 FROM generate_series(1, 9) AS p;
      INSERT INTO media VALUES (4)
      """
    ) { nights in
      let warnings = try await nights.findings().map(\.message)
      #expect(
        warnings.contains { $0.contains("rows of shop.media may refer to rows that are deleted") })
      let report = try await nights.run(
        [3: "deleted", 4: "deleted", 5: "deleted"], status: .failed, checks: false)
      #expect(report.refused.map(\.id) == ["4"])
      #expect(report.refused.allSatisfy { $0.why.contains("media") && !$0.remedy.isEmpty })
      try await nights.changeCopy("DELETE FROM posts WHERE post_id IN (3, 5)")
      try await nights.expectRows()
    }
  }

  /// A nondeterministic collation does not support pattern matching. Two texts with different bytes can be equal in it.
  @Test func idsInAColumnWithANondeterministicCollationAreFound() async throws {
    guard try await ServerFeature.icu.isAvailable() else { return }
    let definition = """
      name: shop
      warehouse: ${DATABASE_URL}
      api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05}
      limits: {max_redacted_percent: 100}
      datasets:
        posts:
          type: tweets
          table: shop.posts
          id: post_id
          actions:
            deleted: delete
            bounced: delete
            suspended: ignore
            deactivated: ignore
            protected: {protect: {set: {visibility: protected}, restore: former}}
            geo_scrubbed: ignore
            tweet_edited: ignore

      """
    try await NightlyFixture.with(
      definition: definition,
      tables: """
        CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE posts (post_id text COLLATE loose PRIMARY KEY, visibility text);
        INSERT INTO posts SELECT p::text FROM generate_series(1, 9) AS p UNION ALL VALUES ('x'), (' 4');
        """
    ) { nights in
      try await nights.run([3: "deleted", 4: "protected", 5: "protected"], checks: false)
      try await nights.run([5: "protected"], checks: false)
      #expect(
        try await nights.rows("SELECT post_id, visibility FROM shop.posts WHERE post_id < '6'")
          == ["(\" 4\",)", "(1,)", "(2,)", "(4,)", "(5,protected)"])
    }
  }

  /// Functions, operators, types and tables with the same names as PostgreSQL's own. Their schema comes first in the
  /// search path, or their types match Lethe's values better.
  private static let shadows: SQL = """
    CREATE SCHEMA odd;
    CREATE FUNCTION odd.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1999-01-01' $$;
    CREATE FUNCTION odd.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT $1 $$;
    CREATE FUNCTION odd.length(text) RETURNS integer LANGUAGE sql AS $$ SELECT 0 $$;
    CREATE FUNCTION odd.trunc(numeric) RETURNS numeric LANGUAGE sql AS $$ SELECT 0.0 $$;
    CREATE FUNCTION odd.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1999-01-01' $$;
    CREATE FUNCTION odd.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE sql AS $$ SELECT 0::bigint WHERE false $$;
    CREATE FUNCTION odd.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS $$ SELECT ''::text WHERE false $$;
    CREATE FUNCTION odd.array_to_json(text[]) RETURNS json LANGUAGE sql AS $$ SELECT '["x"]'::json $$;
    CREATE FUNCTION odd.format(text, name, name) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
    CREATE FUNCTION odd.to_jsonb(text) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
    CREATE FUNCTION odd.is_never(bigint, bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE OPERATOR odd.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = odd.is_never);
    CREATE DOMAIN odd.bigint AS text; CREATE DOMAIN odd.text AS varchar(1); CREATE DOMAIN odd.jsonb AS varchar(1);
    CREATE TABLE odd.pg_class (oid oid, relname name); CREATE TABLE odd.pg_attribute (attname name);
    CREATE TABLE odd.pg_index (indrelid oid); CREATE TABLE odd.pg_namespace (oid oid, nspname name);
    CREATE TABLE odd.pg_inherits (inhrelid oid); CREATE TABLE odd.pg_constraint (oid oid);
    """

  @Test(arguments: ["odd, shop, pg_catalog", "odd, shop, public", "odd, pg_catalog, shop"])
  func objectsThatShadowPostgreSQLsOwnAreNotUsed(path: String) async throws {
    try await NightlyFixture.with(
      Shop(restore: "former", userActions: ["deleted": "delete"]),
      """
      INSERT INTO posts (post_id, author_id, latitude) SELECT p, 1, 2 FROM generate_series(1, 9) AS p
      """
    ) { nights in
      try await nights.execute(Self.shadows)
      try Self.useUnqualifiedName(nights)
      try await Self.setSearchPath(path, nights)
      let check = try await nights.lethe("check", "PIPELINE")
      #expect(check.code == 0, "\(check)")
      let first = try await nights.run(
        [3: "deleted", 4: "protected", 5: "geo_scrubbed"], checks: false)
      #expect(first.rowsLeftOut == 0)
      try await Connection.withConnection(ConnectionString(nights.url)) {
        try await $0.runScript(
          """
          SET search_path = pg_catalog, before;
          DELETE FROM posts WHERE post_id = 3; UPDATE posts SET latitude = NULL WHERE post_id = 5
          """)
      }
      try await nights.run([5: "geo_scrubbed"], checks: false)
      try await Connection.withConnection(ConnectionString(nights.url)) {
        try await $0.runScript("SET search_path = pg_catalog")
        for (one, other) in [("shop", "before"), ("before", "shop")] {
          let rows = try await $0.query(
            """
            SELECT count(*) FROM (TABLE \(trusted: one).posts EXCEPT TABLE \(trusted: other).posts) AS q
            """
          ).onlyRow(as: Int.self)
          #expect(rows == 0, "in \(one) and not in \(other)")
        }
        let times = try await $0.query(
          "SELECT count(*) FROM lethe.event WHERE applied_at < '2020-01-01'"
        ).onlyRow(as: Int.self)
        #expect(times == 0)
      }
      let verified = try await nights.lethe("audit", "verify", "--database", nights.url)
      #expect(verified.code == 0, "\(verified)")
      let shown = try await nights.lethe("audit", "show", "3", "--database", nights.url)
      #expect(shown.code == 0 && shown.stdout.contains("deleted"), "\(shown)")
      let status = try await nights.lethe("status", "--database", nights.url)
      #expect(status.code == 0, "\(status)")
    }
  }
}
