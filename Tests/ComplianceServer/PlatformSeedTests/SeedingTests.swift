import PlatformSeed
import PostgreSQL
import TestSupport
import Testing

@Suite(.endedIfItHangs) struct SeedingTests {
  private static let plan = SeedPlan(accounts: 500, posts: 20_000, seed: 7)

  private static func seeding<R: Sendable>(
    _ body: (Connection) async throws -> R
  ) async throws -> R {
    try await withTestDatabase(.platform) { database in
      try await Connection.withConnection(database.connectionString) { try await body($0) }
    }
  }

  private static func count(_ connection: Connection, _ sql: SQL) async throws -> Int {
    try await connection.query("SELECT count(*) \(sql)").onlyRow(as: Int.self)
  }

  private static func fingerprint(_ connection: Connection) async throws -> String {
    try await connection.query(
      """
      SELECT (SELECT md5(string_agg(account::text, E'\\n' ORDER BY account_id))
              FROM platform.accounts account)
          || (SELECT md5(string_agg(post::text, E'\\n' ORDER BY post_id)) FROM platform.posts post)
      """
    ).onlyRow(as: String.self)
  }

  /// Returns the constraints and indexes of the posts.
  private static func shape(_ connection: Connection) async throws -> [String] {
    try await connection.query(
      """
      SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
      WHERE conrelid = 'platform.posts'::regclass
      UNION ALL
      SELECT indexdef FROM pg_indexes WHERE schemaname = 'platform' AND tablename = 'posts'
      ORDER BY 1
      """
    ).rows(as: String.self)
  }

  @Test func theReportMatchesTheData() async throws {
    try await Self.seeding { connection in
      let report = try await Seeding(connection, Self.plan).run(isReplacing: false)
      #expect(report.accounts == 500 && report.posts == 20_000)
      #expect(try await Self.count(connection, "FROM platform.accounts") == 500)
      #expect(try await Self.count(connection, "FROM platform.posts") == 20_000)
      for (state, number) in report.accountsByState {
        let found = try await Self.count(
          connection, "FROM platform.accounts WHERE state = '\(trusted: state)'")
        #expect(found == number, "\(state)")
      }
      for (column, number) in [
        ("deleted_at", report.deleted), ("bounced_at", report.bounced),
        ("edited_at", report.edited), ("geo_removed_at", report.geoRemoved),
      ] {
        let found = try await Self.count(
          connection, "FROM platform.posts WHERE \(trusted: column) IS NOT NULL")
        #expect(found == number, "\(column)")
      }
      // The expected number is 4 % of 20,000. The range allows about six standard deviations.
      #expect((630...970).contains(report.deleted), "\(report.deleted)")
    }
  }

  @Test func theSeedDeterminesTheData() async throws {
    try await Self.seeding { connection in
      _ = try await Seeding(connection, Self.plan).run(isReplacing: false)
      let first = try await Self.fingerprint(connection)
      _ = try await Seeding(connection, Self.plan).run(isReplacing: true)
      #expect(try await Self.fingerprint(connection) == first)
      var other = Self.plan
      other.seed = 8
      _ = try await Seeding(connection, other).run(isReplacing: true)
      #expect(try await Self.fingerprint(connection) != first)
    }
  }

  @Test func everyIDContainsItsCreationTime() async throws {
    try await Self.seeding { connection in
      _ = try await Seeding(connection, Self.plan).run(isReplacing: false)
      for (table, id) in [("accounts", "account_id"), ("posts", "post_id")] {
        let wrong = try await Self.count(
          connection,
          """
          FROM platform.\(trusted: table)
          WHERE (extract(epoch FROM created_at) * 1000)::bigint - 1288834974657 <> \(trusted: id) >> 22
          """)
        #expect(wrong == 0, "\(table)")
      }
    }
  }

  @Test func allTimesAreInOrder() async throws {
    try await Self.seeding { connection in
      var plan = Self.plan
      plan.untilEpochSeconds = SeedPlan.firstPostEpochSeconds + 86_400
      plan.accountShares.suspended = 0.3
      plan.accountShares.deleted = 0.3
      plan.postShares.edited = 0.5
      for until in [plan.untilEpochSeconds, SeedPlan.defaultUntilEpochSeconds] {
        plan.untilEpochSeconds = until
        _ = try await Seeding(connection, plan).run(isReplacing: true)
        let present = "to_timestamp(\(until))"
        let wrongAccounts = try await Self.count(
          connection,
          """
          FROM platform.accounts WHERE created_at > \(trusted: present)
            OR state_changed_at <= created_at OR state_changed_at > \(trusted: present)
          """)
        #expect(wrongAccounts == 0)
        let wrongPosts = try await Self.count(
          connection,
          """
          FROM platform.posts post JOIN platform.accounts author ON account_id = author_id
          WHERE post.created_at > \(trusted: present) OR post.created_at <= author.created_at
            OR (state IN ('suspended', 'deactivated', 'deleted')
                AND post.created_at >= state_changed_at)
            OR greatest(deleted_at, bounced_at, edited_at, geo_removed_at) > \(trusted: present)
            OR least(deleted_at, bounced_at, edited_at, geo_removed_at) < post.created_at
            OR edited_at > post.created_at + interval '1 hour'
            OR (deleted_at IS NOT NULL AND bounced_at IS NOT NULL)
          """)
        #expect(wrongPosts == 0)
      }
    }
  }

  @Test func theMostActiveTenthOfTheAuthorsWritesMoreThan40Percent() async throws {
    try await Self.seeding { connection in
      _ = try await Seeding(connection, Self.plan).run(isReplacing: false)
      let (top, median) = try await connection.query(
        """
        SELECT (sum(posts) FILTER (WHERE rank <= 50))::bigint,
               percentile_disc(0.5) WITHIN GROUP (ORDER BY posts)
        FROM (SELECT count(post_id) AS posts, row_number() OVER (ORDER BY count(post_id) DESC) AS rank
              FROM platform.accounts LEFT JOIN platform.posts ON author_id = account_id
              GROUP BY account_id) author
        """
      ).onlyRow(as: Int.self, Int.self)
      // The most active tenth writes more than 40 % of the posts. The median is below the mean of 40 posts.
      #expect(top > 8_000, "\(top)")
      #expect(median < 40, "\(median)")
    }
  }

  @Test func keysAndIndexesAreRestored() async throws {
    try await Self.seeding { connection in
      let before = try await Self.shape(connection)
      #expect(!before.isEmpty)
      _ = try await Seeding(connection, Self.plan).run(isReplacing: false)
      #expect(try await Self.shape(connection) == before)
    }
  }

  @Test func existingDataIsReplacedOnlyOnRequest() async throws {
    try await Self.seeding { connection in
      try await connection.execute(
        "INSERT INTO platform.accounts (account_id, username, created_at) VALUES (1, 'a', now())")
      await #expect(throws: PlatformNotEmpty.self) {
        try await Seeding(connection, Self.plan).run(isReplacing: false)
      }
      #expect(try await Self.count(connection, "FROM platform.accounts") == 1)
      _ = try await Seeding(connection, Self.plan).run(isReplacing: true)
      #expect(try await Self.count(connection, "FROM platform.accounts WHERE account_id = 1") == 0)
    }
  }

  @Test func theSmallestNumbersOfAccountsAndPostsWork() async throws {
    try await Self.seeding { connection in
      for (accounts, posts) in [(1, 0), (1, 3), (2, 1)] {
        let report = try await Seeding(
          connection, SeedPlan(accounts: accounts, posts: posts, seed: 1)
        ).run(isReplacing: true)
        #expect(report.accounts == accounts && report.posts == posts)
      }
    }
  }
}
