import PostgreSQL
import Testing

/// What a night reads of the ledger's holds grows as the holds do, and not with the batches as well. The
/// server has no statistics of the tables that grow.
@Suite struct ManyHoldsTests {
  private static let rows = 4_000
  /// A pass over all of them for each batch would be 80 times the rows.
  private static let batch = 50
  private static let timesMax = 30

  /// - Parameter authors: how many users' answers hide the posts; nil for the posts' own answers.
  @Test(arguments: [nil, 1, 1_000] as [Int?])
  func aNightReadsEachHoldAFewTimes(authors: Int?) async throws {
    let shop = Shop(
      way: .postsFirst, restore: "former", limits: ", max_restored_percent: 100",
      postKeys: ["batch: \(Self.batch)"],
      userKeys: ["batch: \(Self.batch)", "batch_rows: \(8 * Self.batch)"])
    try await Nights.with(
      shop,
      """
      INSERT INTO users SELECT u, 'user' FROM generate_series(1, \(authors ?? 1)) AS u;
      INSERT INTO posts (post_id, author_id, visibility)
      SELECT p, 1 + p % \(authors ?? 1), 'internal' FROM generate_series(1, \(Self.rows)) AS p
      """
    ) { nights in
      // A pass over a table of this size costs the server next to nothing: so that it plans as it would for
      // one of millions of rows, each row costs more.
      try await nights.execute(
        """
        DO $$ BEGIN
          EXECUTE format('ALTER DATABASE %I SET cpu_tuple_cost = 1', current_database());
        END $$;
        ALTER TABLE lethe.hold SET (autovacuum_enabled = off);
        ALTER TABLE lethe.holder SET (autovacuum_enabled = off);
        ALTER TABLE lethe.collected SET (autovacuum_enabled = off)
        """)
      let all = Dictionary(
        uniqueKeysWithValues: (1...Int64(authors ?? Self.rows)).map { ($0, "protected") })
      let answers: [(posts: [Int64: String], users: [Int64: String])] =
        authors == nil
        ? [(all, [:]), (all, [:]), ([:], [:])] : [([:], all), ([:], all), ([:], [:])]
      var read = try await Self.rowsRead(nights)
      for (number, night) in answers.enumerated() {
        try await nights.night(night.posts, night.users)
        let now = try await Self.rowsRead(nights)
        #expect(now - read <= Self.timesMax * Self.rows, "night \(number)")
        read = now
      }
      #expect(try await nights.rows("SELECT FROM lethe.hold") == [])
    }
  }

  /// How many rows of holds and holders all statements so far have looked at.
  private static func rowsRead(_ nights: Nights) async throws -> Int {
    try await Connection.withConnection(ConnectionString(nights.url)) {
      try await $0.query(
        """
        SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
        FROM pg_stat_user_tables WHERE schemaname = 'lethe' AND relname IN ('hold', 'holder')
        """
      ).onlyRow(as: Int.self)
    }
  }
}
