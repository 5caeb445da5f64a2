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
    try await NightlyFixture.with(
      shop,
      """
      INSERT INTO users SELECT u, 'user' FROM generate_series(1, \(authors ?? 1)) AS u;
      INSERT INTO posts (post_id, author_id, visibility)
      SELECT p, 1 + p % \(authors ?? 1), 'internal' FROM generate_series(1, \(Self.rows)) AS p
      """
    ) { nights in
      try await Self.planForMany(nights)
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

  /// A pass over a table of this size costs the server next to nothing: so that it plans as it would for one
  /// of millions of rows, each row costs more. What it knows of the tables stays what it is.
  private static func planForMany(_ nights: NightlyFixture) async throws {
    try await nights.execute(
      """
      DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET cpu_tuple_cost = 1', current_database());
      END $$;
      ALTER TABLE lethe.hold SET (autovacuum_enabled = off);
      ALTER TABLE lethe.holder SET (autovacuum_enabled = off);
      ALTER TABLE lethe.collected SET (autovacuum_enabled = off)
      """)
  }

  /// Rows that have a hold, and rows beside them that have none, go.
  @Test func aNightOfDeletionsReadsEachHoldAFewTimes() async throws {
    let shop = Shop(
      way: .postsFirst, restore: "former", limits: ", max_restored_percent: 100",
      postKeys: ["batch: \(Self.batch)"], postActions: ["deleted": "delete"])
    try await NightlyFixture.with(
      shop,
      """
      INSERT INTO posts (post_id, author_id, visibility)
      SELECT p, 1, 'internal' FROM generate_series(1, \(2 * Self.rows)) AS p
      """
    ) { nights in
      try await Self.planForMany(nights)
      let half = Int64(Self.rows)
      try await nights.night(Dictionary(uniqueKeysWithValues: (1...half).map { ($0, "protected") }))
      let before = try await Self.rowsRead(nights)
      try await nights.night(
        Dictionary(uniqueKeysWithValues: (1...2 * half).map { ($0, "deleted") }), checks: false)
      #expect(try await Self.rowsRead(nights) - before <= Self.timesMax * Self.rows)
      #expect(try await nights.rows("SELECT FROM shop.posts") == [])
      #expect(try await nights.rows("SELECT FROM lethe.hold") == [])
    }
  }

  /// While the first holds belong to a transaction under way, their table has pages and no rows. Whoever
  /// collects beside it does not have PostgreSQL note that: a plan for no rows took a minute a chunk.
  @Test func nobodyCountsHoldsThatAreNotCommitted() async throws {
    try await NightlyFixture.with(
      Shop(restore: "former"),
      "INSERT INTO posts (post_id, author_id) SELECT p, 1 FROM generate_series(1, 9) AS p"
    ) { nights in
      try await Connection.withConnection(ConnectionString(nights.url)) { applying in
        try await applying.execute("BEGIN")
        try await applying.execute(
          """
          INSERT INTO lethe.hold (table_name, row_key, former, set_to, ignores_writers)
          SELECT 'shop.posts', jsonb_build_object('post_id', p::text), '{}', '{}', false
          FROM generate_series(1, 2000) AS p
          """)
        nights.answer([.init(type: "tweets", id: 3): "protected"])
        try await nights.withRuntime { try await nights.collect($0) }
        let counted = try await nights.rows(
          """
          SELECT relpages, reltuples FROM pg_class WHERE oid = 'lethe.hold'::regclass AND reltuples = 0
          """
        )
        #expect(counted == [])
        try await applying.execute("ROLLBACK")
      }
    }
  }

  /// How many rows of holds and holders all statements so far have looked at, or looked for.
  private static func rowsRead(_ nights: NightlyFixture) async throws -> Int {
    try await Connection.withConnection(ConnectionString(nights.url)) {
      try await $0.query(
        """
        SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0) + coalesce(idx_scan, 0)), 0)::bigint
        FROM pg_stat_user_tables WHERE schemaname = 'lethe' AND relname IN ('hold', 'holder')
        """
      ).onlyRow(as: Int.self)
    }
  }
}
