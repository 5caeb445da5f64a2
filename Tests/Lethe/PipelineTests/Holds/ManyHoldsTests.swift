import PostgreSQL
import Testing

/// The number of rows that a run reads from the ledger's tables of holds. This number grows with the number of holds,
/// but not with the number of batches. PostgreSQL has no statistics for these tables.
@Suite struct ManyHoldsTests {
  private static let rows = 4_000
  /// If each batch scanned all holds, a run would read each row 80 times.
  private static let batch = 50
  /// The maximum number of times that a run may read each row.
  private static let timesMax = 30

  /// - Parameter authors: the number of users that hold the posts. Nil if the posts' own IDs hold them.
  @Test(arguments: [nil, 1, 1_000] as [Int?])
  func aRunReadsEachHoldAFewTimes(authors: Int?) async throws {
    let shop = Shop(
      order: .postsFirst, restore: "former", limits: ", max_restored_percent: 100",
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
      try await Self.planAsForManyRows(nights)
      let all = Dictionary(
        uniqueKeysWithValues: (1...Int64(authors ?? Self.rows)).map { ($0, "protected") })
      let answers: [(posts: [Int64: String], users: [Int64: String])] =
        authors == nil
        ? [(all, [:]), (all, [:]), ([:], [:])] : [([:], all), ([:], all), ([:], [:])]
      var read = try await Self.rowsRead(nights)
      for (number, answer) in answers.enumerated() {
        try await nights.run(answer.posts, answer.users)
        let now = try await Self.rowsRead(nights)
        #expect(now - read <= Self.timesMax * Self.rows, "run \(number)")
        read = now
      }
      #expect(try await nights.rows("SELECT FROM lethe.hold") == [])
    }
  }

  /// The planner's cost for a scan of such a small table is almost zero. This setting raises the cost of each row, so
  /// that the server plans as for a table of millions of rows. The statistics of the tables do not change.
  private static func planAsForManyRows(_ nights: NightlyFixture) async throws {
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

  /// Rows with a hold and rows without a hold are deleted.
  @Test func aRunOfDeletionsReadsEachHoldAFewTimes() async throws {
    let shop = Shop(
      order: .postsFirst, restore: "former", limits: ", max_restored_percent: 100",
      postKeys: ["batch: \(Self.batch)"], postActions: ["deleted": "delete"])
    try await NightlyFixture.with(
      shop,
      """
      INSERT INTO posts (post_id, author_id, visibility)
      SELECT p, 1, 'internal' FROM generate_series(1, \(2 * Self.rows)) AS p
      """
    ) { nights in
      try await Self.planAsForManyRows(nights)
      let half = Int64(Self.rows)
      try await nights.run(Dictionary(uniqueKeysWithValues: (1...half).map { ($0, "protected") }))
      let before = try await Self.rowsRead(nights)
      try await nights.run(
        Dictionary(uniqueKeysWithValues: (1...2 * half).map { ($0, "deleted") }), checks: false)
      #expect(try await Self.rowsRead(nights) - before <= Self.timesMax * Self.rows)
      #expect(try await nights.rows("SELECT FROM shop.posts") == [])
      #expect(try await nights.rows("SELECT FROM lethe.hold") == [])
    }
  }

  /// While the first holds belong to an open transaction, their table has pages and no visible rows. A concurrent
  /// collect must not analyze the table in this state. Otherwise the server plans for an empty table, and each chunk
  /// takes a minute.
  @Test func holdsThatAreNotCommittedAreNotAnalyzed() async throws {
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

  /// The number of rows of holds and holders that all statements so far have read or looked up.
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
