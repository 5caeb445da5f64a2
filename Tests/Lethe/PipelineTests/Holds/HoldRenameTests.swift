import ApplyStage
import Definitions
import PostgreSQL
import TestSupport
import Testing
import Warehouse

/// Columns and tables are renamed, in the database and in the definition file, between the run that hides a row
/// and the run that restores it.
@Suite struct HoldRenameTests {
  struct Renaming: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let sql: SQL
    /// Replacements in the definition: the old text and the new text.
    var edits: [(String, String)] = []
    /// The table and the column that store the visibility after the rename.
    var table = "shop.posts"
    var column = "visibility"
    /// The visibility of post 10 after the release of its author.
    var restored = "(friends)"
    /// How the hold of post 10 ended.
    var outcome = "(restored)"
  }

  static let renamings = [
    Renaming(
      testDescription: "the column that is set",
      sql: "ALTER TABLE shop.posts RENAME visibility TO shown_to",
      edits: [
        (
          "set: {visibility: protected, latitude: null}",
          "set: {shown_to: protected, latitude: null}"
        )
      ],
      column: "shown_to"),
    Renaming(
      testDescription: "both columns that are set",
      sql: """
        ALTER TABLE shop.posts RENAME visibility TO "Shown' to";
        ALTER TABLE shop.posts RENAME latitude TO visible
        """,
      edits: [
        (
          "set: {visibility: protected, latitude: null}",
          "set: {\"Shown' to\": protected, visible: null}"
        ),
        ("{latitude: null, raw: [geo]}", "{visible: null, raw: [geo]}"),
      ], column: "\"Shown' to\""),
    Renaming(
      testDescription: "a column, and another column takes its name",
      sql: """
        ALTER TABLE shop.posts RENAME visibility TO shown_to;
        ALTER TABLE shop.posts ALTER latitude TYPE text USING latitude::text;
        ALTER TABLE shop.posts RENAME latitude TO visibility
        """,
      edits: [
        (
          "set: {visibility: protected, latitude: null}",
          "set: {shown_to: protected, visibility: null}"
        ), ("{latitude: null, raw: [geo]}", "{visibility: null, raw: [geo]}"),
      ], column: "shown_to || visibility", restored: "(friends3.5)"),
    Renaming(
      testDescription: "the key", sql: "ALTER TABLE shop.posts RENAME post_id TO tweet_id",
      edits: [("id: post_id", "id: tweet_id")]),
    Renaming(
      testDescription: "the table", sql: "ALTER TABLE shop.posts RENAME TO tweets",
      edits: [("shop.posts", "shop.tweets")], table: "shop.tweets"),
    Renaming(
      testDescription: "the schema",
      sql: "CREATE SCHEMA other; ALTER TABLE shop.posts SET SCHEMA other",
      edits: [("shop.posts", "other.posts")], table: "other.posts"),
    Renaming(
      testDescription: "table, key and column",
      sql: """
        ALTER TABLE shop.posts RENAME post_id TO tweet_id;
        ALTER TABLE shop.posts RENAME visibility TO shown_to;
        ALTER TABLE shop.posts RENAME TO tweets
        """,
      edits: [
        (
          "set: {visibility: protected, latitude: null}",
          "set: {shown_to: protected, latitude: null}"
        ),
        ("id: post_id", "id: tweet_id"), ("shop.posts", "shop.tweets"),
      ], table: "shop.tweets", column: "shown_to"),
    Renaming(
      testDescription: "another column replaces the column that is set",
      sql: """
        ALTER TABLE shop.posts ADD wider varchar(40);
        UPDATE shop.posts SET wider = visibility;
        ALTER TABLE shop.posts DROP visibility;
        ALTER TABLE shop.posts RENAME wider TO visibility
        """),
    Renaming(
      testDescription: "the column that is set is renamed, and another column gets its name",
      sql: """
        ALTER TABLE shop.posts ADD wider varchar(40);
        UPDATE shop.posts SET wider = visibility;
        ALTER TABLE shop.posts RENAME visibility TO former;
        ALTER TABLE shop.posts RENAME wider TO visibility
        """),
    Renaming(
      testDescription: "another table replaces the former table",
      sql: """
        CREATE TABLE shop.newer (LIKE shop.posts INCLUDING ALL);
        INSERT INTO shop.newer OVERRIDING SYSTEM VALUE SELECT * FROM shop.posts;
        ALTER TABLE shop.posts RENAME TO former;
        ALTER TABLE shop.newer RENAME TO posts
        """),
    Renaming(
      testDescription: "all columns that are set are dropped",
      sql: """
        ALTER TABLE shop.posts DROP visibility, DROP latitude;
        ALTER TABLE shop.posts ADD shown_to text DEFAULT 'nobody', ADD place float8
        """,
      edits: [
        ("set: {visibility: protected, latitude: null}", "set: {shown_to: protected, place: null}"),
        ("{latitude: null, raw: [geo]}", "{place: null, raw: [geo]}"),
      ], column: "shown_to", restored: "(nobody)", outcome: "(dropped)"),
  ]

  private static let shop = Shop(
    set: "{visibility: protected, latitude: null}", restore: "former",
    userActions: ["protected": "ignore"])

  private static func rename(_ renaming: Renaming, _ nights: NightlyFixture) async throws {
    try await nights.execute(renaming.sql)
    let definition = nights.definition
    try nights.edit(
      definition, to: renaming.edits.reduce(definition) { $0.replacing($1.0, with: $1.1) })
  }

  /// - Parameter hasRunBetween: whether there is a run between the rename and the release. In that run, the author is
  ///   still protected.
  @Test(arguments: sampled(renamings, [false, true], 8))
  func aRowIsRestoredAfterARename(renaming: Renaming, hasRunBetween: Bool) async throws {
    try await NightlyFixture.with(Self.shop, HoldKeyChangeTests.rows) { nights in
      try await nights.run([:], [2: "protected"], checks: false)
      try await Self.rename(renaming, nights)
      let findings = try await nights.findings()
      #expect(!findings.contains { $0.message.contains("cannot be found") }, "\(findings)")
      if hasRunBetween { try await nights.run([:], [2: "protected"], checks: false) }
      try await nights.run(checks: false)
      let id = renaming.sql.description.contains("tweet_id") ? "tweet_id" : "post_id"
      #expect(
        try await nights.rows(
          """
          SELECT \(trusted: renaming.column) FROM \(trusted: renaming.table) WHERE \(trusted: id) = 10
          """
        )
          == [renaming.restored])
      #expect(
        try await nights.rows("SELECT outcome FROM lethe.closed_hold ORDER BY hold_id").first
          == renaming.outcome)
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
      #expect(try await nights.lethe("audit", "verify").code == 0)
    }
  }

  /// Chunks of several datasets are applied at the same time. Each chunk looks for renamed columns and tables before it
  /// changes rows.
  @Test func aRenameIsFollowedOnceByConcurrentChunks() async throws {
    let renaming = try #require(Self.renamings.first { $0.restored == "(friends3.5)" })
    try await NightlyFixture.with(Self.shop, HoldKeyChangeTests.rows) { nights in
      try await nights.run([:], [2: "protected"], checks: false)
      try await Self.rename(renaming, nights)
      let pipeline = try nights.pipeline()
      try await Connection.withConnection(pipeline.warehouse) { blocker in
        try await blocker.runScript("BEGIN; LOCK TABLE lethe.held_column IN EXCLUSIVE MODE")
        async let one: Void = Self.followNames(pipeline)
        async let other: Void = Self.followNames(pipeline)
        // Both tasks have read the former names before they wait.
        try await HoldRaceTests.waitForLocks(2, nights)
        try await blocker.runScript("COMMIT")
        _ = try await (one, other)
      }
      try await nights.run(checks: false)
      #expect(
        try await nights.rows(
          "SELECT \(trusted: renaming.column) FROM shop.posts WHERE post_id = 10")
          == [renaming.restored])
    }
  }

  private static func followNames(_ pipeline: Pipeline) async throws {
    try await Connection.withConnection(pipeline.warehouse) {
      let catalog = try await Catalog(of: pipeline.definition, on: $0)
      try await HoldKeys(connection: $0, catalog: catalog).followNames()
    }
  }

  /// For a hold of an earlier version, the ledger has no attribute numbers (attnum). So Lethe cannot find a renamed
  /// column. The row stays hidden, and the check reports the hold.
  @Test(arguments: renamings.prefix(2))
  func aRowStaysHiddenIfItsRenamedColumnCannotBeFound(renaming: Renaming) async throws {
    try await NightlyFixture.with(Self.shop, HoldKeyChangeTests.rows) { nights in
      try await nights.run([:], [2: "protected"], checks: false)
      try await nights.execute("DELETE FROM lethe.held_column")
      try await Self.rename(renaming, nights)
      for _ in 1...2 {
        try await nights.run(checks: false)
        #expect(
          try await nights.rows(
            "SELECT \(trusted: renaming.column) FROM shop.posts WHERE post_id = 10") == [
              "(protected)"
            ])
        #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(1)"])
        #expect(try await nights.findings().contains { $0.message.contains("cannot be found") })
      }
      let back = renaming.edits.reduce(nights.definition) { $0.replacing($1.1, with: $1.0) }
      try nights.edit(nights.definition, to: back)
      if renaming.testDescription == "both columns that are set" {
        try await nights.execute("ALTER TABLE shop.posts RENAME visible TO latitude")
      }
      try await nights.execute(
        "ALTER TABLE shop.posts RENAME \(trusted: renaming.column) TO visibility")
      try await nights.run(checks: false)
      #expect(try await nights.visibility(10) == "friends")
    }
  }
}
