import PostgreSQL
import Runtime
import Testing

/// Rows that another writer changes while Lethe hides them.
@Suite struct HoldOperatorTests {
  static let rows = """
    INSERT INTO users VALUES (1, 'one');
    INSERT INTO posts (post_id, author_id, text, visibility) VALUES
      (8, 1, 'eight', 'public'), (9, 1, 'nine', 'internal'), (10, 2, 'ten', 'internal')
    """

  private static func with(
    _ shop: Shop, _ body: @escaping @Sendable (NightlyFixture) async throws -> Void
  ) async throws {
    try await NightlyFixture.with(shop, rows, body)
  }

  /// A counter that increases every minute does not keep a row hidden, if the last increase was before the export.
  @Test(arguments: Shop.Order.allCases, Shop.restores)
  func aChangeOfAnotherColumnBeforeTheExportDoesNotPreventARestore(
    order: Shop.Order, restore: String
  ) async throws {
    try await Self.with(Shop(order: order, restore: restore)) { nights in
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.change("UPDATE posts SET likes = likes + 1; UPDATE users SET likes = 3")
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.change("UPDATE posts SET likes = likes + 1, text = 'mended'")
      try await nights.run()
      #expect(try await nights.visibility(10) == "internal")
    }
  }

  /// A writer that changes a row after the export might have newer information than the answer.
  @Test(arguments: Shop.restores)
  func aRowThatIsWrittenAfterTheExportWaitsForTheNextCleanAnswer(restore: String) async throws {
    let shop = Shop(restore: restore, userActions: ["deactivated": "ignore"])
    try await Self.with(shop) { nights in
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.run(stillHidden: [9, 10]) {
        try await nights.change("UPDATE posts SET likes = 5 WHERE post_id IN (9, 10)")
      }
      #expect(try await nights.visibility(8) == "public")
      // These answers are not clean, so they do not restore the rows either.
      try await nights.run([10: "protected"], [1: "deactivated"], stillHidden: [9])
      try await nights.run()
      #expect(try await nights.visibility(9) == "internal")
      #expect(try await nights.visibility(10) == "internal")
    }
  }

  /// After the export, the writer sets the value that Lethe had set. The writer's reason is unknown.
  @Test func aWriterThatHidesTheRowAgainAfterTheExportKeepsItHiddenInThatRun() async throws {
    try await Self.with(Shop()) { nights in
      try await nights.run([10: "protected"])
      try await nights.run(stillHidden: [10], checks: false) {
        try await nights.change(
          "UPDATE posts SET text = 'other words', visibility = 'protected' WHERE post_id = 10")
      }
      #expect(try await nights.visibility(10) == "protected")
    }
  }

  @Test(arguments: Shop.Order.allCases, ["public", "internal", "friends", nil])
  func aRowWhoseHeldColumnAnotherWriterChangedIsNotRestored(
    order: Shop.Order, writersValue: String?
  )
    async throws
  {
    try await Self.with(Shop(order: order)) { nights in
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.change(
        "UPDATE posts SET visibility = \(writersValue) WHERE post_id IN (9, 10)",
        makesVisible: [9, 10])
      try await nights.run()
      #expect(try await nights.visibility(9) == writersValue)
      #expect(try await nights.visibility(10) == writersValue)
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
      // The hold has ended. If the operator hides the row now, the row stays hidden.
      try await nights.change("UPDATE posts SET visibility = 'protected' WHERE post_id IN (9, 10)")
      try await nights.run()
      #expect(try await nights.visibility(9) == "protected")
      #expect(try await nights.visibility(10) == "protected")
    }
  }

  /// The column changes between export and apply. Lethe recognizes the change by the column's value.
  @Test func aRowWhoseHeldColumnChangesAfterTheExportIsNotRestored() async throws {
    try await Self.with(Shop()) { nights in
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.run {
        try await nights.change(
          "UPDATE posts SET visibility = 'friends' WHERE post_id IN (9, 10)", makesVisible: [9, 10])
      }
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  @Test(arguments: Shop.Order.allCases)
  func aRowThatAnotherWriterMakesVisibleIsHiddenAgainAndRestoredToThatWritersValue(
    order: Shop.Order
  )
    async throws
  {
    try await Self.with(Shop(order: order, restore: "former")) { nights in
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.change(
        "UPDATE posts SET visibility = 'friends' WHERE post_id IN (9, 10)", makesVisible: [9, 10])
      try await nights.run([10: "protected"], [1: "protected"])
      #expect(try await nights.visibility(9) == "protected")
      #expect(try await nights.visibility(10) == "protected")
      try await nights.run()
      #expect(try await nights.visibility(9) == "friends")
      #expect(try await nights.visibility(10) == "friends")
    }
  }

  /// Another writer makes the row visible and hides it again before the next run. So the held column has the value
  /// that Lethe set.
  @Test func aHeldColumnThatWasChangedAndChangedBackIsRestored() async throws {
    try await Self.with(Shop(restore: "former")) { nights in
      try await nights.run([10: "protected"])
      try await nights.execute("UPDATE shop.posts SET visibility = 'public' WHERE post_id = 10")
      try await nights.execute("UPDATE shop.posts SET visibility = 'protected' WHERE post_id = 10")
      try await nights.waitForOtherDatabases()
      try await nights.run()
      #expect(try await nights.visibility(10) == "internal")
    }
  }

  @Test(arguments: Shop.Order.allCases)
  func aRowThatTheOperatorDeletesAndInsertsAgainKeepsItsNewValues(order: Shop.Order) async throws {
    try await Self.with(Shop(order: order)) { nights in
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.change(
        """
        DELETE FROM posts WHERE post_id IN (9, 10);
        INSERT INTO posts (post_id, author_id, text, visibility) VALUES
          (9, 1, 'again', 'friends'), (10, 2, 'again', 'friends')
        """, makesVisible: [9, 10])
      try await nights.run([10: "protected"])
      #expect(try await nights.visibility(9) == "friends")
      #expect(try await nights.visibility(10) == "protected")
      try await nights.run()
      #expect(try await nights.visibility(10) == "friends")
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  @Test func theHoldOfARowThatTheOperatorDeletedEndsWithItsLastHolder() async throws {
    try await Self.with(Shop()) { nights in
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.change("DELETE FROM posts WHERE post_id = 9")
      try await nights.run()
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  /// The operator's trigger changes the row in every update, including Lethe's updates.
  @Test(arguments: Shop.Order.allCases)
  func aTriggersWriteDuringLethesUpdateDoesNotPreventARestore(order: Shop.Order) async throws {
    try await NightlyFixture.with(
      Shop(order: order), Self.rows
    ) { nights in
      try await nights.execute(
        """
        CREATE FUNCTION shop.count() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN NEW.raw := jsonb_build_object(''n'', coalesce((OLD.raw->>''n'')::integer, 0) + 1); RETURN NEW; END';
        CREATE TRIGGER count BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.count()
        """)
      try await nights.run([10: "protected"], [1: "protected"], checks: false)
      try await nights.run(checks: false)
      #expect(
        try await nights.rows("SELECT post_id, visibility FROM shop.posts")
          == ["(10,internal)", "(8,public)", "(9,internal)"])
    }
  }

  /// A writer that changes rows of other IDs does not keep a row hidden.
  @Test func writersOfOtherRowsDoNotPreventARestore() async throws {
    try await Self.with(Shop()) { nights in
      try await nights.run([10: "protected"], [1: "protected"])
      try await nights.run {
        try await nights.change(
          """
          INSERT INTO posts (post_id, author_id) SELECT p, 5 FROM generate_series(100, 200) AS p;
          UPDATE posts SET likes = 1 WHERE post_id >= 100
          """)
      }
    }
  }
}
