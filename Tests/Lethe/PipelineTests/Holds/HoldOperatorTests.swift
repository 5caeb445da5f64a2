import PostgreSQL
import Runtime
import Testing

/// Rows that somebody else writes while Lethe hides them.
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

  /// A counter that goes up every minute is no reason to keep a row hidden, wherever it was written before
  /// the export.
  @Test(arguments: Shop.Way.allCases, Shop.restores)
  func aColumnThatIsNotHeldMayChangeBeforeTheExport(way: Shop.Way, restore: String) async throws {
    try await Self.with(Shop(way: way, restore: restore)) { nights in
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.change("UPDATE posts SET likes = likes + 1; UPDATE users SET likes = 3")
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.change("UPDATE posts SET likes = likes + 1, text = 'mended'")
      try await nights.night()
      #expect(try await nights.visibility(10) == "internal")
    }
  }

  /// Whoever writes a row after the export may know what the answer does not.
  @Test(arguments: Shop.restores)
  func aRowThatIsWrittenAfterTheExportWaitsForTheNextCleanAnswer(restore: String) async throws {
    let shop = Shop(restore: restore, userActions: ["deactivated": "ignore"])
    try await Self.with(shop) { nights in
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.night(stillHidden: [9, 10]) {
        try await nights.change("UPDATE posts SET likes = 5 WHERE post_id IN (9, 10)")
      }
      #expect(try await nights.visibility(8) == "public")
      // These answers are not clean, so they are no reason to open the rows either.
      try await nights.night([10: "protected"], [1: "deactivated"], stillHidden: [9])
      try await nights.night()
      #expect(try await nights.visibility(9) == "internal")
      #expect(try await nights.visibility(10) == "internal")
    }
  }

  /// The writer sets what Lethe had set, after the export: who knows why.
  @Test func aWriterWhoHidesTheRowAnewAfterTheExportKeepsItHiddenThatNight() async throws {
    try await Self.with(Shop()) { nights in
      try await nights.night([10: "protected"])
      try await nights.night(stillHidden: [10], checks: false) {
        try await nights.change(
          "UPDATE posts SET text = 'other words', visibility = 'protected' WHERE post_id = 10")
      }
      #expect(try await nights.visibility(10) == "protected")
    }
  }

  @Test(arguments: Shop.Way.allCases, ["public", "internal", "friends", nil])
  func aRowWhoseHeldColumnSomebodyChangedIsTheirs(way: Shop.Way, theirs: String?) async throws {
    try await Self.with(Shop(way: way)) { nights in
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.change(
        "UPDATE posts SET visibility = \(theirs) WHERE post_id IN (9, 10)", opens: [9, 10])
      try await nights.night()
      #expect(try await nights.visibility(9) == theirs)
      #expect(try await nights.visibility(10) == theirs)
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
      // The hold is closed for good: hidden by the operator now, the row stays so.
      try await nights.change("UPDATE posts SET visibility = 'protected' WHERE post_id IN (9, 10)")
      try await nights.night()
      #expect(try await nights.visibility(9) == "protected")
      #expect(try await nights.visibility(10) == "protected")
    }
  }

  /// Changed between export and apply, not before: the values tell it all the same.
  @Test func aRowWhoseHeldColumnChangesAfterTheExportIsTheirs() async throws {
    try await Self.with(Shop()) { nights in
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.night {
        try await nights.change(
          "UPDATE posts SET visibility = 'friends' WHERE post_id IN (9, 10)", opens: [9, 10])
      }
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  @Test(arguments: Shop.Way.allCases)
  func aRowThatSomebodyOpenedIsHiddenAnewAndGoesBackToWhatItWasThen(way: Shop.Way) async throws {
    try await Self.with(Shop(way: way, restore: "former")) { nights in
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.change(
        "UPDATE posts SET visibility = 'friends' WHERE post_id IN (9, 10)", opens: [9, 10])
      try await nights.night([10: "protected"], [1: "protected"])
      #expect(try await nights.visibility(9) == "protected")
      #expect(try await nights.visibility(10) == "protected")
      try await nights.night()
      #expect(try await nights.visibility(9) == "friends")
      #expect(try await nights.visibility(10) == "friends")
    }
  }

  /// Opened and hidden again before anybody looked: the held column is as it was set.
  @Test func aHeldColumnThatIsChangedBackBeforeTheExportIsAsLetheSetIt() async throws {
    try await Self.with(Shop(restore: "former")) { nights in
      try await nights.night([10: "protected"])
      try await nights.execute("UPDATE shop.posts SET visibility = 'public' WHERE post_id = 10")
      try await nights.execute("UPDATE shop.posts SET visibility = 'protected' WHERE post_id = 10")
      try await nights.waitForOtherDatabases()
      try await nights.night()
      #expect(try await nights.visibility(10) == "internal")
    }
  }

  @Test(arguments: Shop.Way.allCases)
  func aRowThatTheOperatorDeletesAndMakesAgainIsTheirs(way: Shop.Way) async throws {
    try await Self.with(Shop(way: way)) { nights in
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.change(
        """
        DELETE FROM posts WHERE post_id IN (9, 10);
        INSERT INTO posts (post_id, author_id, text, visibility) VALUES
          (9, 1, 'again', 'friends'), (10, 2, 'again', 'friends')
        """, opens: [9, 10])
      try await nights.night([10: "protected"])
      #expect(try await nights.visibility(9) == "friends")
      #expect(try await nights.visibility(10) == "protected")
      try await nights.night()
      #expect(try await nights.visibility(10) == "friends")
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  @Test func aRowThatTheOperatorDeletesLeavesNoHoldBehindOnceItsHolderIsReleased() async throws {
    try await Self.with(Shop()) { nights in
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.change("DELETE FROM posts WHERE post_id = 9")
      try await nights.night()
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  /// The operator's own trigger writes the row on every update, Lethe's among them.
  @Test(arguments: Shop.Way.allCases)
  func whatATriggerAddsToLethesUpdateIsNotSomebodyElses(way: Shop.Way) async throws {
    try await NightlyFixture.with(
      Shop(way: way), Self.rows
    ) { nights in
      try await nights.execute(
        """
        CREATE FUNCTION shop.count() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN NEW.raw := jsonb_build_object(''n'', coalesce((OLD.raw->>''n'')::integer, 0) + 1); RETURN NEW; END';
        CREATE TRIGGER count BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.count()
        """)
      try await nights.night([10: "protected"], [1: "protected"], checks: false)
      try await nights.night(checks: false)
      #expect(
        try await nights.rows("SELECT post_id, visibility FROM shop.posts")
          == ["(10,internal)", "(8,public)", "(9,internal)"])
    }
  }

  /// Nobody who writes rows of other IDs keeps a row hidden.
  @Test func writersOfOtherRowsChangeNothing() async throws {
    try await Self.with(Shop()) { nights in
      try await nights.night([10: "protected"], [1: "protected"])
      try await nights.night {
        try await nights.change(
          """
          INSERT INTO posts (post_id, author_id) SELECT p, 5 FROM generate_series(100, 200) AS p;
          UPDATE posts SET likes = 1 WHERE post_id >= 100
          """)
      }
    }
  }
}
