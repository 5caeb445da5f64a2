import PostgreSQL
import TestSupport
import Testing

/// Several processes apply random answers to the same rows at the same time, each for its own pipeline. After each night,
/// the rows must be those of the model of `NightlyFixture`, in which answers are applied one after the other.
///
/// A failure names its seed. `LETHE_SEED` repeats it.
@Suite struct ConcurrentNightsTests {
  private static let posts: ClosedRange<Int64> = 101...124
  private static let users: ClosedRange<Int64> = 1...6
  private static let nights = 4

  private static let shop = Shop(
    restore: "former", postKeys: ["chunk: {ids: 13}", "batch: 3"],
    userKeys: ["batch: 2", "batch_rows: 3"])

  /// The definitions by their pipelines' names. Each pipeline has datasets of the shop. They overlap.
  private static func definitions() throws -> [String: String] {
    [
      "posts": try HoldDefinitionTests.singleDataset("posts", shop.definition),
      "users": try HoldDefinitionTests.singleDataset("users", shop.definition),
      "shop": shop.definition,
    ]
  }

  private static var rows: String {
    """
    INSERT INTO users SELECT id, 'user ' || id FROM generate_series(\(users.lowerBound), \(users.upperBound)) AS id;
    INSERT INTO posts (post_id, author_id, text, visibility, latitude, raw)
    SELECT id, 1 + id % \(users.upperBound), 'post ' || id,
           CASE id % 3 WHEN 0 THEN 'public' WHEN 1 THEN 'internal' ELSE 'friends' END, id, '{"geo": 1, "lang": "en"}'
    FROM generate_series(\(posts.lowerBound), \(posts.upperBound)) AS id
    """
  }

  @Test func theRowsMatchTheAnswersAfterEachNight() async throws {
    let seed = SeededGenerator.seedOfTest()
    let comment: Comment = "LETHE_SEED=\(seed)"
    print("ConcurrentNightsTests: LETHE_SEED=\(seed)")
    var random = SeededGenerator(seed: seed)
    let answers = (1...Self.nights).map { night in
      // In the last night, all IDs are clean, so every hold must end.
      night == Self.nights ? ([:], [:]) : Self.answers(&random)
    }
    try await NightlyFixture.with(
      definition: Self.shop.definition, tables: "\(Shop.tables)\n\(Self.rows)"
    ) { nights in
      for (night, (posts, users)) in answers.enumerated() {
        let both =
          posts.map { (NightlyFixture.ID(type: "tweets", id: $0), $1) }
          + users.map { (NightlyFixture.ID(type: "users", id: $0), $1) }
        nights.answer(Dictionary(uniqueKeysWithValues: both))
        try await nights.waitForOtherDatabases()
        // In some nights, all processes begin with collected chunks, so that they apply at the same time.
        if night.isMultiple(of: 2) {
          try await run(["export"], nights, comment)
          while try await hasJobsToSubmit(nights) {
            try await run(["submit", "await"], nights, comment)
          }
          try await run(["collect"], nights, comment)
          try await run(["apply"], nights, comment)
        } else {
          try await run(["run"], nights, comment)
        }
        try await declare(posts, users, nights)
        try await nights.expectRows()
        let orphans = try await nights.rows(
          """
          SELECT h.row_key FROM lethe.hold AS h
          WHERE NOT EXISTS (SELECT FROM lethe.holder AS r WHERE r.hold_id = h.hold_id)
            OR h.table_name = 'shop.posts'
              AND NOT EXISTS (SELECT FROM shop.posts AS t WHERE t.post_id::text = h.row_key ->> 'post_id')
          """)
        #expect(orphans == [], comment)
      }
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"], comment)
      #expect(try await nights.rows("SELECT chunk_id, id, why FROM lethe.refusal") == [], comment)
    }
  }

  /// Runs commands one after the other, for all pipelines at the same time.
  private func run(
    _ commands: [String], _ nights: NightlyFixture, _ comment: Comment
  ) async throws {
    try await withThrowingTaskGroup { group in
      for (name, definition) in try Self.definitions() {
        group.addTask {
          for command in commands {
            let ending = try await nights.lethe([command, "PIPELINE"], of: name, definition)
            #expect(ending.code == 0, "\(comment) \(name): \(ending.stderr)")
          }
        }
      }
      try await group.waitForAll()
    }
  }

  private func hasJobsToSubmit(_ nights: NightlyFixture) async throws -> Bool {
    try await !nights.rows("SELECT FROM lethe.chunk WHERE state IN ('exported', 'created')").isEmpty
  }

  private static func answers(
    _ random: inout SeededGenerator
  ) -> (posts: [Int64: String], users: [Int64: String]) {
    var posts: [Int64: String] = [:]
    var users: [Int64: String] = [:]
    for id in Self.posts {
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<8: posts[id] = "protected"
      case 8: posts[id] = "deleted"
      case 9..<12: posts[id] = "geo_scrubbed"
      default: break
      }
    }
    for id in Self.users {
      switch Int.random(in: 0..<12, using: &random) {
      case 0..<5: users[id] = "protected"
      case 5: users[id] = "deleted"
      default: break
      }
    }
    return (posts, users)
  }

  /// Makes the changes of the answers that do not hide rows in the copy of the warehouse.
  private func declare(
    _ posts: [Int64: String], _ users: [Int64: String], _ nights: NightlyFixture
  ) async throws {
    func ids(_ reason: String, _ answers: [Int64: String]) -> [Int64] {
      answers.filter { $0.value == reason }.keys.sorted()
    }
    try await nights.changeCopy(
      "DELETE FROM posts WHERE post_id = ANY (\(ids("deleted", posts))::bigint[]) OR author_id = ANY (\(ids("deleted", users))::bigint[])"
    )
    try await nights.changeCopy(
      "DELETE FROM users WHERE user_id = ANY (\(ids("deleted", users))::bigint[])")
    try await nights.changeCopy(
      """
      UPDATE posts SET latitude = NULL, raw = raw - 'geo'
      WHERE post_id = ANY (\(ids("geo_scrubbed", posts))::bigint[])
      """)
  }
}
