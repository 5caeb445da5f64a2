import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// The rows that are hidden after each run. `NightlyFixture` checks the conditions that must be true after every run.
/// Each test also checks its own case.
@Suite struct HoldTests {
  static let authorWith100Posts = """
    INSERT INTO users VALUES (1, 'one');
    INSERT INTO posts (post_id, author_id, text, visibility)
    SELECT p, 1, 'text ' || p,
           CASE WHEN p <= 80 THEN 'public' WHEN p <= 90 THEN 'protected' ELSE 'internal' END
    FROM generate_series(1, 100) AS p
    """

  static let userSeven = """
    INSERT INTO users VALUES (7, 'seven');
    INSERT INTO posts (post_id, author_id, text, visibility)
    SELECT p, 7, 'text ' || p, CASE WHEN p % 3 = 0 THEN 'internal' ELSE 'public' END
    FROM generate_series(70, 79) AS p
    """

  @Test(arguments: Shop.Order.allCases, Shop.restores)
  func aPostThatTheOperatorHadHiddenStaysHidden(order: Shop.Order, restore: String) async throws {
    try await NightlyFixture.with(
      Shop(order: order, restore: restore),
      """
      INSERT INTO posts (post_id, author_id, visibility) VALUES (5, 1, 'protected'), (6, 1, 'public')
      """
    ) { nights in
      try await nights.run([5: "protected", 6: "protected"])
      try await nights.run()
      #expect(try await nights.visibility(5) == "protected")
      #expect(try await nights.visibility(6) == "public")
    }
  }

  @Test(arguments: Shop.Order.allCases, Shop.restores)
  func eachPostOfAnAuthorGetsItsFormerValue(order: Shop.Order, restore: String) async throws {
    try await NightlyFixture.with(Shop(order: order, restore: restore), Self.authorWith100Posts) {
      nights in
      try await nights.run([:], [1: "protected"])
      try await nights.run()
      #expect(
        try await nights.rows(
          "SELECT visibility, count(*) FROM shop.posts GROUP BY visibility"
        ) == ["(internal,10)", "(protected,10)", "(public,80)"])
    }
  }

  @Test(arguments: Shop.Order.allCases)
  func postsOfADeactivatedUserStayHiddenUntilTheUsersAnswerIsClean(
    order: Shop.Order
  ) async throws {
    let shop = Shop(order: order, userActions: ["deactivated": "{redact: {name: ''}}"])
    try await NightlyFixture.with(shop, Self.userSeven) { nights in
      try await nights.run([:], [7: "protected"])
      try await nights.changeCopy("UPDATE users SET name = '' WHERE user_id = 7")
      try await nights.run([:], [7: "deactivated"])
      for post in Int64(70)...79 {
        #expect(try await nights.visibility(post) == "protected", "post \(post)")
      }
      try await nights.run()
    }
  }

  /// The post's own answer is clean in the run in which its author is deactivated.
  @Test(arguments: Shop.Order.allCases)
  func aPostsCleanAnswerDoesNotRestoreItWhileItsAuthorHoldsIt(order: Shop.Order) async throws {
    let shop = Shop(order: order, userActions: ["deactivated": "{redact: {name: ''}}"])
    try await NightlyFixture.with(shop, Self.userSeven) { nights in
      try await nights.run([71: "protected"], [7: "protected"])
      try await nights.changeCopy("UPDATE users SET name = '' WHERE user_id = 7")
      try await nights.run([:], [7: "deactivated"])
      #expect(try await nights.visibility(71) == "protected")
      // The author's answer still does not release the post.
      try await nights.run([:], [7: "deactivated"])
      #expect(try await nights.visibility(71) == "protected")
      try await nights.run()
      #expect(try await nights.visibility(71) == "public")
    }
  }

  @Test(arguments: ["public", "internal"], Shop.restores)
  func aNewValueOfTheSetKeyDoesNotChangeHeldRows(
    visibility: String, restore: String
  ) async throws {
    try await NightlyFixture.with(
      Shop(restore: restore),
      """
      INSERT INTO posts (post_id, author_id, visibility) VALUES (9, 1, '\(visibility)'), (10, 1, 'public')
      """
    ) { nights in
      try await nights.run([9: "protected"])
      try nights.edit("set: {visibility: protected}", to: "set: {visibility: hidden}", of: "posts")
      // A row that is already held is not changed. Other rows are hidden with the current definition.
      try await nights.run([9: "protected", 10: "protected"])
      #expect(try await nights.visibility(9) == "protected")
      #expect(try await nights.visibility(10) == "hidden")
      try await nights.run([10: "protected"])
      #expect(try await nights.visibility(9) == visibility)
      try await nights.run()
    }
  }

  @Test(arguments: Shop.restores)
  func aRenamedDatasetDoesNotChangeHeldRows(restore: String) async throws {
    try await NightlyFixture.with(
      Shop(restore: restore),
      """
      INSERT INTO users VALUES (1, 'one');
      INSERT INTO posts (post_id, author_id, visibility) VALUES (9, 2, 'internal'), (10, 1, 'public')
      """
    ) { nights in
      try await nights.run([9: "protected"], [1: "protected"])
      try nights.edit("  posts:\n    type: tweets", to: "  statuses:\n    type: tweets")
      try nights.edit("  users:\n    type: users", to: "  accounts:\n    type: users")
      try await nights.run()
      #expect(try await nights.visibility(9) == "internal")
      #expect(try await nights.visibility(10) == "public")
    }
  }

  /// The operator deletes the user's row, so Lethe no longer asks about the user.
  @Test func heldRowsWhoseHolderIsNoLongerExportedAreCounted() async throws {
    try await NightlyFixture.with(
      Shop(),
      """
      INSERT INTO users SELECT u, 'user' FROM generate_series(3, 4) AS u;
      INSERT INTO posts (post_id, author_id) SELECT p, 3 FROM generate_series(31, 37) AS p
      """
    ) { nights in
      try await nights.run([:], [3: "protected"])
      #expect(try await nights.findings().filter { $0.message.contains("hold") } == [])
      try await nights.change("DELETE FROM users WHERE user_id = 3")
      try await nights.run()
      for post in Int64(31)...37 {
        #expect(try await nights.visibility(post) == "protected", "post \(post)")
      }
      let findings = try await nights.findings().filter { $0.message.contains("hold") }
      #expect(findings.count == 1)
      #expect(findings.first?.severity == .warning)
      #expect(findings.first?.remedy.contains("lethe holds") == true)
      let status = try await nights.lethe("status", "--output", "json")
      #expect(status.code == 0)
      #expect(status.stdout.contains("hold"), "\(status.stdout)")

      // The user's row exists again. Lethe asks about the user again, and the answer is clean.
      try await nights.change("INSERT INTO users VALUES (3, 'again')")
      try await nights.run()
      #expect(try await nights.findings().filter { $0.message.contains("hold") } == [])
      for post in Int64(31)...37 {
        #expect(try await nights.visibility(post) == "public", "post \(post)")
      }
    }
  }

  @Test(arguments: Shop.Order.allCases, Shop.restores)
  func aPostThatIsRedactedWhileItIsHiddenStaysHidden(order: Shop.Order, restore: String)
    async throws
  {
    let shop = Shop(
      order: order, restore: restore, postActions: ["deleted": "{redact: {text: ''}}"])
    try await NightlyFixture.with(
      shop,
      "INSERT INTO posts (post_id, author_id, text, visibility) VALUES (4, 1, 'words', 'internal')"
    ) { nights in
      try await nights.run([4: "protected"])
      try await nights.changeCopy("UPDATE posts SET text = '' WHERE post_id = 4")
      try await nights.run([4: "deleted"])
      #expect(try await nights.visibility(4) == "protected")
      try await nights.run()
      #expect(
        try await nights.rows("SELECT text, visibility FROM shop.posts") == [#"("",internal)"#])
    }
  }

  @Test func withoutARestoreRowsStayHiddenAndNoValueIsKept() async throws {
    try await NightlyFixture.with(Shop(restore: "none"), Self.userSeven) { nights in
      try await nights.run([71: "protected"], [7: "protected"])
      try await nights.run(checks: false)
      #expect(
        try await nights.rows("SELECT DISTINCT visibility FROM shop.posts") == ["(protected)"])
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  /// If the answers are the same as in the last run, no row, hold or holder is written.
  @Test func aRepeatedAnswerWritesNothing() async throws {
    try await NightlyFixture.with(Shop(), Self.userSeven) { nights in
      try await nights.run([71: "protected"], [7: "protected"])
      let versions: SQL = """
        SELECT 'post', xmin::text, ctid::text FROM shop.posts UNION ALL
        SELECT 'user', xmin::text, ctid::text FROM shop.users UNION ALL
        SELECT 'hold', xmin::text, ctid::text FROM lethe.hold UNION ALL
        SELECT 'holder', xmin::text, ctid::text FROM lethe.holder
        """
      let before = try await nights.rows(versions)
      let report = try await nights.run([71: "protected"], [7: "protected"])
      #expect(report.rowsChanged == 0)
      #expect(try await nights.rows(versions) == before)
    }
  }

  /// When a row is deleted, its hold is deleted too. A later row with the same key is another row.
  @Test func aDeletedRowsHoldIsDeleted() async throws {
    try await NightlyFixture.with(
      Shop(), "INSERT INTO posts (post_id, author_id, visibility) VALUES (9, 1, 'public')"
    ) { nights in
      try await nights.run([9: "protected"])
      try await nights.changeCopy("DELETE FROM posts WHERE post_id = 9")
      try await nights.run([9: "deleted"])
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
      try await nights.change(
        "INSERT INTO posts (post_id, author_id, visibility) VALUES (9, 1, 'protected')")
      try await nights.run()
      #expect(try await nights.visibility(9) == "protected")
    }
  }

  /// When a user is deleted, the holds of the user's posts are deleted too, no matter which IDs hold them.
  @Test func aUsersDeletionDeletesTheHoldsOfThePosts() async throws {
    try await NightlyFixture.with(Shop(), Self.userSeven) { nights in
      try await nights.run([71: "protected"], [7: "protected"])
      try await nights.changeCopy("DELETE FROM posts; DELETE FROM users")
      try await nights.run([71: "protected"], [7: "deleted"])
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
      #expect(try await nights.rows("SELECT count(*) FROM lethe.holder") == ["(0)"])
      try await nights.change(
        "INSERT INTO posts (post_id, author_id, visibility) VALUES (71, 7, 'protected')")
      try await nights.run()
      #expect(try await nights.visibility(71) == "protected")
    }
  }
}
