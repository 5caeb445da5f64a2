import PostgreSQL
import TestSupport
import Testing

/// Runs on a database with unusual settings.
@Suite struct SessionRunTests {
  private static let settings = [
    ["bytea_output = 'escape'"], ["standard_conforming_strings = off", "backslash_quote = on"],
    ["array_nulls = off"], ["transform_null_equals = on"], ["quote_all_identifiers = on"],
    ["default_transaction_read_only = on"], ["default_transaction_isolation = 'serializable'"],
    ["default_transaction_isolation = 'repeatable read'", "default_transaction_deferrable = on"],
    ["DateStyle = SQL, DMY", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Kathmandu'"],
    ["extra_float_digits = -15"], ["session_replication_role = 'replica'"],
    ["row_security = off", "exit_on_error = on"], ["idle_session_timeout = '20s'"],
  ]

  @Test(arguments: settings)
  func aRunHasTheSameResultWithUnusualSettings(settings: [String]) async throws {
    let shop = Shop(
      restore: "former", userActions: ["deleted": "delete"],
      more: """
        CREATE TABLE liked (post_id bigint REFERENCES posts ON DELETE CASCADE);
        INSERT INTO users VALUES (1, 'o''one \\ two'), (2, 'two');
        """)
    try await NightlyFixture.with(
      shop,
      """
      INSERT INTO posts (post_id, author_id, text, latitude, raw, visibility)
      SELECT p, 1 + p % 2, 'a \\ ''b''', 0.1 + 0.2, '{"geo": {"x": 0.30000000000000004}, "t": "\\\\"}', NULL
      FROM generate_series(1, 12) AS p;
      INSERT INTO liked SELECT post_id FROM posts
      """
    ) { nights in
      try await nights.execute(
        """
        DO $$ BEGIN
          \(trusted: settings.map {
            "EXECUTE format('ALTER DATABASE %I SET \($0.replacing("'", with: "''"))', current_database());"
          }.joined(separator: "\n  "))
        END $$
        """)
      try await nights.run(
        [1: "protected", 2: "geo_scrubbed", 3: "protected"], [2: "protected"], checks: false)
      try await nights.changeCopy(
        "UPDATE posts SET latitude = NULL, raw = raw - 'geo' WHERE post_id = 2")
      try await nights.expectRows()
      try await nights.run([4: "deleted", 3: "protected"], checks: false)
      try await nights.changeCopy("DELETE FROM posts WHERE post_id = 4")
      try await nights.expectRows()
      #expect(try await nights.rows("SELECT FROM shop.liked").count == 11)
      try await nights.run()
      #expect(try await nights.rows("SELECT FROM lethe.hold") == [])
      let verified = try await nights.lethe("audit", "verify", "--database", nights.url)
      #expect(verified.code == 0, "\(verified)")
    }
  }
}
