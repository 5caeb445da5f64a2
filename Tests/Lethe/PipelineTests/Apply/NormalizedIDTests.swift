import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// IDs that are stored as text with blanks and leading zeros. The definition normalizes them. Rows with any form of an
/// ID are exported, changed, verified and restored. The guard rejects any form of an ID that has a tombstone.
@Suite struct NormalizedIDTests {
  private static let types = ["text", "character varying", "text COLLATE loose", "label"]
  private static let batches = [
    "batch: 10000", "batch: 1", "batch: 3\n    batch_rows: 2", "atomic: chunk",
  ]
  private static let collation =
    "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
  private static let restores = ["former", "{visibility: public}"]

  private static func definition(batch: String, restore: String) -> String {
    let protect = "{protect: {set: {visibility: protected}, restore: \(restore)}}"
    return """
      name: shop
      warehouse: ${DATABASE_URL}
      api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05}
      limits: {max_redacted_percent: 100, allow_whole_chunks: true, max_restored_percent: 100}
      datasets:
        posts:
          type: tweets
          table: shop.posts
          id: {column: item, normalize: digits}
          \(batch)
          actions: {deleted: delete, bounced: delete, suspended: {redact: {note: ''}}, deactivated: delete,
                    protected: \(protect), geo_scrubbed: {scrub_geo: [lat]}, tweet_edited: ignore}
          targets:
            - {table: shop.media, match: {column: post, normalize: digits}, actions: {deleted: delete}}
        users:
          type: users
          table: shop.users
          id: {normalize: digits, column: id}
          actions: {deleted: delete, suspended: delete, deactivated: delete, protected: ignore}
          targets:
            - table: shop.posts
              match: {column: author, normalize: digits}
              id: {column: item, normalize: digits}
              type: tweets
              actions: {deleted: delete, protected: \(protect)}
              targets:
                - {table: shop.media, match: {column: post, normalize: digits}, actions: {deleted: delete}}
      """
  }

  /// Returns a script that creates the tables. They contain each ID in four forms.
  private static func tables(_ type: String) -> String {
    """
    DO $$ BEGIN
      \(type.contains("loose") ? Self.collation : "")
      CREATE DOMAIN label AS text;
    END $$;
    CREATE TABLE users (id \(type), key serial PRIMARY KEY);
    CREATE TABLE posts (item \(type), author \(type), note text, lat float8, visibility text,
                        key serial PRIMARY KEY);
    CREATE TABLE media (post \(type), name text, key serial PRIMARY KEY);
    CREATE FUNCTION forms(id int) RETURNS SETOF text LANGUAGE sql AS $$
      VALUES (id::text), (' ' || id), ('00' || id || E'\\r'), (E'\\t0' || id || '  ')
    $$;
    INSERT INTO users (id) SELECT form FROM generate_series(1, 4) AS id, forms(id) AS form;
    INSERT INTO posts (item, author, note, lat, visibility)
    SELECT form, (SELECT f FROM forms(1 + id % 4) AS f OFFSET id % 3 LIMIT 1), 'note', 1.5, 'public'
    FROM generate_series(11, 30) AS id, forms(id) AS form;
    INSERT INTO media (post, name) SELECT item, 'name' FROM posts;
    UPDATE posts SET visibility = 'internal' WHERE key % 5 = 0
    """
  }

  private static func id(_ column: String) -> String {
    "regexp_replace(\(column) COLLATE \"C\", '\\s', '', 'g')::numeric"
  }

  /// Expects that a table has the same rows in the schemas `shop` and `before`.
  private static func expectSame(_ nights: NightlyFixture, _ table: String) async throws {
    for (one, other) in [("shop", "before"), ("before", "shop")] {
      let rows = try await nights.rows(
        """
        SELECT \(trusted: one).* FROM (SELECT to_jsonb(t)::text FROM \(trusted: one).\(trusted: table) AS t
        EXCEPT SELECT to_jsonb(t)::text FROM \(trusted: other).\(trusted: table) AS t) AS \(trusted: one)
        """)
      #expect(rows == [], "\(table): in \(one) and not in \(other)")
    }
  }

  private static func expectSame(_ nights: NightlyFixture) async throws {
    for table in ["users", "posts", "media"] { try await expectSame(nights, table) }
  }

  @Test(arguments: sampled(types, batches, 6))
  func rowsOfEveryFormOfAnIDAreChanged(type: String, batch: String) async throws {
    let isLoose = type.contains("loose")
    guard try await ServerFeature.icu.isAvailable(ifNeeded: isLoose) else { return }
    for restore in Self.restores {
      try await NightlyFixture.with(
        definition: Self.definition(batch: batch, restore: restore), tables: Self.tables(type)
      ) { nights in
        let first = try await nights.run(
          [11: "deleted", 12: "protected", 13: "geo_scrubbed", 14: "suspended", 15: "protected"],
          [1: "deleted", 3: "protected"], checks: false)
        #expect(first.datasets["posts"]?.ids == 20 && first.datasets["users"]?.ids == 4)
        #expect(first.rowsLeftOut == 0)
        let (item, author, post) = (Self.id("item"), Self.id("author"), Self.id("post"))
        try await nights.changeCopy(
          """
          DELETE FROM media WHERE \(trusted: post) IN (SELECT \(trusted: item) FROM posts
            WHERE \(trusted: author) = 1) OR \(trusted: post) = 11;
          DELETE FROM posts WHERE \(trusted: item) = 11 OR \(trusted: author) = 1;
          DELETE FROM users WHERE \(trusted: Self.id("id")) = 1;
          UPDATE posts SET lat = NULL WHERE \(trusted: item) = 13;
          UPDATE posts SET note = '' WHERE \(trusted: item) = 14;
          CREATE TABLE hidden AS SELECT key, visibility FROM posts
          WHERE \(trusted: item) IN (12, 15) OR \(trusted: author) = 3;
          UPDATE posts SET visibility = 'protected' WHERE key IN (SELECT key FROM hidden)
          """)
        try await Self.expectSame(nights)
        let tombstones = try await nights.rows("SELECT type, id FROM lethe.tombstone")
        let gone = (11...30).filter { $0 == 11 || $0 == 14 || $0 % 4 == 0 }
        #expect(tombstones == (["(users,1)"] + gone.map { "(tweets,\($0))" }).sorted())

        // A repeated answer changes nothing.
        let again = try await nights.run(
          [12: "protected", 13: "geo_scrubbed", 14: "suspended", 15: "protected"],
          [3: "protected"], checks: false)
        #expect(again.rowsChanged == 0)
        try await nights.run([15: "protected"], [:], checks: false)
        try await nights.changeCopy(
          """
          UPDATE posts AS p SET visibility = h.visibility FROM hidden AS h
          WHERE h.key = p.key AND \(trusted: item) <> 15
          """)
        try await Self.expectSame(nights)
        let left = try await nights.rows("SELECT row_key FROM lethe.hold")
        #expect(left.count == 4)
      }
    }
  }

  @Test(arguments: types)
  func theGuardRejectsEveryFormOfAnID(type: String) async throws {
    let isLoose = type.contains("loose")
    guard try await ServerFeature.icu.isAvailable(ifNeeded: isLoose) else { return }
    try await NightlyFixture.with(
      definition: Self.definition(batch: "batch: 10", restore: "former"), tables: Self.tables(type)
    ) { nights in
      try await nights.run([11: "deleted"], checks: false)
      let installed = try await nights.lethe(
        "guard", "install", "shop.posts", "--id", "item", "--database", nights.url)
      #expect(installed.code == 0, "\(installed)")
      try await nights.execute(
        """
        INSERT INTO shop.posts (item) SELECT form FROM shop.forms(11) AS form;
        INSERT INTO shop.posts (item) VALUES ('110'), ('1 1'), (NULL), ('011x')
        """)
      let inserted = try await nights.rows("SELECT item FROM shop.posts WHERE author IS NULL")
      #expect(inserted == ["()", "(011x)", "(\"1 1\")", "(110)"].sorted())
    }
  }

  @Test func checkRequiresAnIndexOverTheNormalizedID() async throws {
    try await NightlyFixture.with(
      definition: Self.definition(batch: "batch: 10", restore: "former"),
      tables: Self.tables("text")
    ) { nights in
      let findings = try await nights.findings().filter { $0.message.contains("no index") }
      #expect(
        findings.map(\.path).sorted() == [
          "datasets.posts.id", "datasets.posts.targets[0].match", "datasets.users.id",
          "datasets.users.targets[0].match", "datasets.users.targets[0].targets[0].match",
        ])
      for remedy in Set(findings.map(\.remedy)) { try await nights.execute(SQL(trusted: remedy)) }
      #expect(try await nights.findings() == [])
    }
  }

  /// If `match` does not normalize, no event matches a key with blanks. `lethe check` reports the rows with such keys.
  @Test func rowsOfTargetsThatNoEventCanMatchAreReported() async throws {
    let definition = Self.definition(batch: "batch: 10", restore: "former")
      .editing("match: {column: post, normalize: digits}", to: "match: post", occurrences: 2)
    try await NightlyFixture.with(definition: definition, tables: Self.tables("text")) { nights in
      let findings = try await nights.findings().filter {
        $0.message.contains("no event reaches")
      }
      #expect(
        findings.map(\.path) == [
          "datasets.posts.targets[0].match", "datasets.users.targets[0].targets[0].match",
        ])
      #expect(findings.allSatisfy { $0.message.contains("60 rows of shop.media") }, "\(findings)")
    }
  }

  @Test func theRemedyContainsAStatementThatNormalizesTheIDs() async throws {
    let definition = Self.definition(batch: "batch: 10", restore: "former")
      .editing("id: {column: item, normalize: digits}\n    batch", to: "id: item\n    batch")
    try await NightlyFixture.with(definition: definition, tables: Self.tables("text")) { nights in
      let finding = try #require(
        try await nights.findings().first {
          $0.path == "datasets.posts.id" && $0.message.contains("left out")
        })
      #expect(finding.message.contains("60 of 80 rows"), "\(finding)")
      try await nights.execute("INSERT INTO shop.posts (item) VALUES ('000')")
      let cleaning = try #require(finding.remedy.firstRange(of: "UPDATE "))
      try await nights.execute(SQL(trusted: String(finding.remedy[cleaning.lowerBound...])))
      // A value of only zeros is not an ID, and is not changed.
      #expect(
        try await nights.rows("SELECT item FROM shop.posts WHERE item !~ '[1-9]'") == ["(000)"])
      try await nights.execute("DELETE FROM shop.posts WHERE item = '000'")
      #expect(try await nights.findings().allSatisfy { !$0.message.contains("left out") })
    }
  }

  /// An index over the raw column cannot be used to find a normalized ID.
  @Test(arguments: ["", "CREATE INDEX ON shop.items (item)"])
  func theIndexMustBeOverTheNormalizedID(other: String) async throws {
    let definition = LeftOutTests.definition()
      .editing("id: item", to: "id: {column: item, normalize: digits}")
    try await NightlyFixture.with(
      definition: definition, tables: "CREATE TABLE items (item text)"
    ) { nights in
      if !other.isEmpty { try await nights.execute(SQL(trusted: other)) }
      func finding() async throws -> Finding? {
        try await nights.findings().first { $0.remedy.hasPrefix("CREATE INDEX") }
      }
      let missing = try #require(try await finding())
      try await nights.execute(SQL(trusted: missing.remedy))
      #expect(try await finding() == nil)
    }
  }

  @Test(arguments: ["bigint", "numeric"])
  func normalizingANumericColumnIsRefused(type: String) async throws {
    let definition = LeftOutTests.definition()
      .editing("id: item", to: "id: {column: item, normalize: digits}")
    try await NightlyFixture.with(
      definition: definition, tables: "CREATE TABLE items (item \(type) PRIMARY KEY)"
    ) { nights in
      let check = try await nights.lethe("check", "PIPELINE")
      #expect(
        check.code == 2 && check.stdout.contains("normalize: digits is only for text"), "\(check)")
    }
  }
}
