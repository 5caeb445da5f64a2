import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Rows that several IDs hold. A row is restored when its last holder is released, in any order of datasets,
/// chunks and runs.
@Suite struct HolderTests {
  /// The beginning of a definition. The tests add the datasets posts, reposts and users to it. The reposts are also a
  /// target of the other two datasets.
  static let definitionStart = """
    name: shop
    warehouse: ${DATABASE_URL}
    api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05}
    limits: {max_redacted_percent: 100, max_redacted_rows: 100000, allow_whole_chunks: true}
    datasets:

    """

  static func dataset(_ name: String) -> String {
    let protect = "{protect: {set: {visibility: protected}, restore: former}}"
    let tweets = """
          actions: {deleted: delete, bounced: delete, suspended: ignore, deactivated: ignore,
                    protected: \(protect), geo_scrubbed: ignore, tweet_edited: rehydrate}

      """
    switch name {
    case "posts":
      return """
          posts:
            type: tweets
            table: shop.posts
            id: post_id
            chunk: {ids: 1}

        """ + tweets + """
              targets: [{table: shop.reposts, match: original_id, actions: {protected: \(protect)}}]

          """
    case "reposts":
      return """
          reposts:
            type: tweets
            table: shop.reposts
            id: repost_id
            batch: 1

        """ + tweets
    default:
      return """
          users:
            type: users
            table: shop.users
            id: user_id
            actions: {deleted: delete, suspended: ignore, deactivated: ignore, protected: \(protect)}
            targets:
              - {table: shop.posts, match: author_id, actions: {protected: \(protect)}}
              - {table: shop.reposts, match: author_id, actions: {protected: \(protect)}}

        """
    }
  }

  static let orders = [
    ["posts", "reposts", "users"], ["reposts", "users", "posts"], ["users", "posts", "reposts"],
    ["users", "reposts", "posts"],
  ]

  static let rows = """
    INSERT INTO users VALUES (1, 'one');
    INSERT INTO posts (post_id, author_id) VALUES (9, 2), (10, 2);
    INSERT INTO reposts VALUES (900, 9, 1, 'copy', 'internal'), (901, 10, 2, 'copy', 'public')
    """

  private static func withThreeDatasets(
    _ order: [String], _ body: @escaping @Sendable (NightlyFixture) async throws -> Void
  ) async throws {
    try await NightlyFixture.with(
      definition: definitionStart + order.map(dataset).joined(),
      tables: "\(Shop.tables)\n\(rows)", runsStagesSeparately: true, body)
  }

  private static func repost(_ nights: NightlyFixture) async throws -> [String] {
    try await nights.rows("SELECT visibility FROM shop.reposts WHERE repost_id = 900")
  }

  /// The holders are the repost's own ID, the original post's ID and the author's ID. Each holder is released first,
  /// second or last.
  @Test(
    arguments: sampled(
      orders, [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]], 6))
  func theReleaseOfTheLastOfThreeHoldersRestoresTheRow(order: [String], releases: [Int])
    async throws
  {
    try await Self.withThreeDatasets(order) { nights in
      var holders = Set(0..<3)
      func answers() -> ([Int64: String], [Int64: String]) {
        var posts: [Int64: String] = [:]
        if holders.contains(0) { posts[900] = "protected" }
        if holders.contains(1) { posts[9] = "protected" }
        return (posts, holders.contains(2) ? [1: "protected"] : [:])
      }
      try await nights.run(answers().0, answers().1)
      #expect(try await Self.repost(nights) == ["(protected)"])
      for released in releases {
        holders.remove(released)
        try await nights.run(answers().0, answers().1)
        let expected = holders.isEmpty ? "(internal)" : "(protected)"
        #expect(try await Self.repost(nights) == [expected], "held by \(holders.sorted())")
      }
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  @Test(arguments: sampled(orders, 2))
  func aHolderThatIsAddedInALaterRunKeepsTheFormerValue(order: [String]) async throws {
    try await Self.withThreeDatasets(order) { nights in
      try await nights.run([900: "protected"])
      try await nights.run([900: "protected", 9: "protected"])
      try await nights.run([9: "protected"], [1: "protected"])
      try await nights.run([:], [1: "protected"])
      #expect(try await Self.repost(nights) == ["(protected)"])
      try await nights.run()
      #expect(try await Self.repost(nights) == ["(internal)"])
    }
  }

  /// In one run, one ID is released and another ID becomes a holder.
  @Test(arguments: sampled(orders, 2))
  func aRowWhoseHolderIsReplacedInOneRunStaysHidden(order: [String]) async throws {
    try await Self.withThreeDatasets(order) { nights in
      try await nights.run([900: "protected"])
      for _ in 0..<2 {
        try await nights.run([9: "protected"])
        #expect(try await Self.repost(nights) == ["(protected)"])
        try await nights.run([:], [1: "protected"])
        #expect(try await Self.repost(nights) == ["(protected)"])
        try await nights.run([900: "protected"])
        #expect(try await Self.repost(nights) == ["(protected)"])
      }
      try await nights.run()
      #expect(try await Self.repost(nights) == ["(internal)"])
    }
  }

  @Test(arguments: sampled(orders, ["deactivated", "suspended"], 3))
  func aHolderIsNotReleasedByAReasonOfHigherPriorityThanProtected(
    order: [String], reason: String
  ) async throws {
    try await Self.withThreeDatasets(order) { nights in
      try await nights.run([900: "protected", 9: "protected"], [1: "protected"])
      try await nights.run([900: reason], [1: reason])
      #expect(try await Self.repost(nights) == ["(protected)"])
      try await nights.run([:], [1: reason])
      #expect(try await Self.repost(nights) == ["(protected)"])
      try await nights.run([900: reason])
      // The repost's own ID was clean in the run before, and the author is clean now.
      #expect(try await Self.repost(nights) == ["(internal)"])
    }
  }

  /// A post and a user have the same ID.
  @Test(arguments: Shop.Order.allCases)
  func aUsersAnswerDoesNotReleaseThePostWithTheSameID(order: Shop.Order) async throws {
    try await NightlyFixture.with(
      Shop(order: order),
      """
      INSERT INTO users VALUES (7, 'seven');
      INSERT INTO posts (post_id, author_id, visibility) VALUES (7, 8, 'internal'), (8, 7, 'public')
      """
    ) { nights in
      try await nights.run([7: "protected"], [7: "protected"])
      try await nights.run([7: "protected"])
      #expect(try await nights.visibility(7) == "protected")
      #expect(try await nights.visibility(8) == "public")
      try await nights.run([:], [7: "protected"])
      #expect(try await nights.visibility(7) == "internal")
      #expect(try await nights.visibility(8) == "protected")
    }
  }

  /// The author's answer hides two columns. The post's own answer hides one of them.
  @Test(arguments: Shop.Order.allCases, [true, false])
  func aColumnIsRestoredWhenItsLastHolderIsReleased(order: Shop.Order, authorFirst: Bool)
    async throws
  {
    let shop = Shop(
      order: order, restore: "former", reachedSet: "{visibility: protected, searchable: false}")
    try await NightlyFixture.with(
      shop,
      """
      INSERT INTO users VALUES (1, 'one');
      INSERT INTO posts (post_id, author_id, visibility) VALUES (9, 1, 'internal')
      """
    ) { nights in
      let post: SQL = "SELECT visibility, searchable FROM shop.posts"
      try await nights.run([9: "protected"], authorFirst ? [1: "protected"] : [:])
      try await nights.run([9: "protected"], [1: "protected"])
      #expect(try await nights.rows(post) == ["(protected,f)"])
      try await nights.run([9: "protected"])
      #expect(try await nights.rows(post) == ["(protected,t)"])
      try await nights.run([9: "protected"], [1: "protected"])
      try await nights.run([:], [1: "protected"])
      #expect(try await nights.rows(post) == ["(protected,f)"])
      try await nights.run()
      #expect(try await nights.rows(post) == ["(internal,t)"])
    }
  }

  /// The operator had already hidden a post, or set one of its columns. Lethe sets only the columns that differ.
  @Test(arguments: Shop.restores)
  func onlyTheColumnsThatLetheChangedAreRestored(restore: String) async throws {
    let set = "{visibility: protected, searchable: false}"
    let shop = Shop(
      set: set, restore: restore == "former" ? restore : "{visibility: public, searchable: true}")
    try await NightlyFixture.with(
      shop,
      """
      INSERT INTO posts (post_id, author_id, visibility, searchable) VALUES
        (8, 1, 'internal', false), (9, 1, 'protected', true), (10, 1, 'protected', false);
      ALTER TABLE users ADD searchable boolean NOT NULL DEFAULT true
      """
    ) { nights in
      try await nights.run([8: "protected", 9: "protected", 10: "protected"])
      #expect(
        try await nights.rows("SELECT DISTINCT visibility, searchable FROM shop.posts")
          == ["(protected,f)"])
      try await nights.run()
      #expect(
        try await nights.rows("SELECT post_id, visibility, searchable FROM shop.posts")
          == ["(10,protected,f)", "(8,internal,f)", "(9,protected,t)"])
    }
  }

  /// Every chunk has a few IDs, and every batch of posts has one or two. So the holders of a row are in different
  /// chunks and batches.
  @Test(arguments: sampled(Array(0..<6), 3))
  func rowsOfAllHoldersAreHiddenAfterRandomRuns(part: Int) async throws {
    let seed = SeededGenerator.seedOfTest()
    let applyOrders = Shop.Order.allCases
    let shop = Shop(
      order: applyOrders[part % 3], restore: part < 3 ? "former" : "{visibility: public}",
      postKeys: ["chunk: {ids: \(part % 3 + 2)}", "batch: \(part % 2 + 1)"],
      userKeys: ["chunk: {ids: 2}"],
      postActions: [
        "deactivated": "ignore", "suspended": "{redact: {text: ''}}", "bounced": "ignore",
        "deleted": "{redact: {text: ''}}",
      ],
      userActions: ["deactivated": "ignore", "suspended": "{redact: {name: ''}}"])
    try await NightlyFixture.with(
      shop,
      """
      INSERT INTO users SELECT u, 'user' FROM generate_series(1, 4) AS u;
      INSERT INTO posts (post_id, author_id, text, visibility)
      SELECT p, 1 + p % 5, '',
             (ARRAY['public', 'internal', 'protected', 'friends', NULL])[1 + (p / 3)::integer % 5]
      FROM generate_series(1, 20) AS p;
      UPDATE users SET name = ''
      """
    ) { nights in
      var random = SeededGenerator(seed: seed)
      let reasons = ["protected", "protected", "deactivated", "suspended"]
      for run in 1...8 {
        var posts: [Int64: String] = [:]
        var users: [Int64: String] = [:]
        for post in Int64(1)...20 where Int.random(in: 0..<3, using: &random) == 0 {
          posts[post] = (reasons + ["geo_scrubbed", "deleted"]).randomElement(using: &random)
        }
        for user in Int64(1)...4 where Bool.random(using: &random) {
          users[user] = reasons.randomElement(using: &random)
        }
        try await nights.run(posts, users, checks: false)
        try await nights.expectRows()
        if run % 2 == 0 {
          let liked = Int64.random(in: 1...20, using: &random)
          try await nights.change("UPDATE posts SET likes = likes + 1 WHERE post_id = \(liked)")
        }
      }
      try await nights.run()
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"], "seed \(seed)")
    }
  }
}
