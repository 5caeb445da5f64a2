import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// A definition that names tables without their schema.
@Suite struct SearchPathTests {
  private static func findIn(_ path: String, _ nights: Nights) async throws {
    try await nights.execute(
      """
      DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET search_path = \(path)', current_database());
      END $$
      """)
  }

  private static func unqualified(_ nights: Nights) throws {
    try nights.edit("table: shop.posts\n    id: post_id", to: "table: posts\n    id: post_id")
  }

  /// The other schema has tables of the same names and rows.
  @Test func aRunKeepsTheTablesThatItBeganWith() async throws {
    try await Nights.with(
      Shop(restore: "former"),
      "INSERT INTO posts (post_id, author_id) SELECT p, 1 FROM generate_series(1, 9) AS p"
    ) { nights in
      try Self.unqualified(nights)
      try await Self.findIn("shop", nights)
      nights.answer([
        .init(type: "tweets", id: 3): "deleted", .init(type: "tweets", id: 4): "protected",
      ])
      try await nights.withRuntime { try await nights.collect($0) }
      try await Self.findIn("before", nights)
      _ = try await nights.withRuntime { try await $0.apply() }
      #expect(try await nights.rows("SELECT post_id FROM before.posts").count == 9)
      try await nights.declare("DELETE FROM posts WHERE post_id = 3")
      try await nights.expectRows()
    }
  }

  /// A role that is called as the ledger's schema has it first in its path.
  @Test func aTableOfTheLedgerIsNotTakenForOne() async throws {
    try await Nights.with(
      Shop(),
      "INSERT INTO posts (post_id, author_id) SELECT p, 1 FROM generate_series(1, 9) AS p"
    ) { nights in
      try Self.unqualified(nights)
      try await nights.execute("CREATE TABLE lethe.posts (post_id bigint PRIMARY KEY)")
      try await Self.findIn("lethe, shop", nights)
      nights.answer([.init(type: "tweets", id: 3): "deleted"])
      _ = try await nights.withRuntime { try await $0.run() }
      #expect(try await nights.rows("SELECT post_id FROM shop.posts").count == 8)
    }
  }

  /// The foreign key is on the whole, and the definition names a partition: what is held is known before a
  /// row is touched, and all the rest is applied.
  @Test func aPartitionsRowsAreHeldByForeignKeysOfTheWhole() async throws {
    try await Nights.with(
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
      #expect(warnings.contains { $0.contains("rows of shop.media may hold what is deleted") })
      let report = try await nights.night(
        [3: "deleted", 4: "deleted", 5: "deleted"], status: .failed, checks: false)
      #expect(report.refused.map(\.id) == ["4"])
      #expect(report.refused.allSatisfy { $0.why.contains("media") && !$0.remedy.isEmpty })
      try await nights.declare("DELETE FROM posts WHERE post_id IN (3, 5)")
      try await nights.expectRows()
    }
  }

  /// Such a collation takes no patterns, and compares more than bytes.
  @Test func idsOfANondeterministicCollationAreIDs() async throws {
    guard try await ServerFeature.icu.isThere() else { return }
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
    try await Nights.with(
      definition: definition,
      tables: """
        CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE posts (post_id text COLLATE loose PRIMARY KEY, visibility text);
        INSERT INTO posts SELECT p::text FROM generate_series(1, 9) AS p UNION ALL VALUES ('x'), (' 4');
        """
    ) { nights in
      try await nights.night([3: "deleted", 4: "protected", 5: "protected"], checks: false)
      try await nights.night([5: "protected"], checks: false)
      #expect(
        try await nights.rows("SELECT post_id, visibility FROM shop.posts WHERE post_id < '6'")
          == ["(\" 4\",)", "(1,)", "(2,)", "(4,)", "(5,protected)"])
    }
  }
}
