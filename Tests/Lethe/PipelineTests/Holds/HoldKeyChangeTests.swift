import Foundation
import PostgreSQL
import TestSupport
import Testing
import Warehouse

/// Tables that change between the run that hides a row and the run that restores it.
@Suite struct HoldKeyChangeTests {
  static let rows = """
    ALTER TABLE posts DROP CONSTRAINT posts_pkey, ADD UNIQUE (post_id), ALTER post_id SET NOT NULL,
      ADD row_number bigint GENERATED ALWAYS AS IDENTITY;
    INSERT INTO users VALUES (1, 'one'), (2, 'two');
    INSERT INTO posts (post_id, author_id, visibility, latitude) VALUES
      (8, 1, 'public', 1.5), (9, 1, 'internal', 2.5), (10, 2, 'friends', 3.5)
    """

  static let otherKeys = [
    "ALTER TABLE posts ADD PRIMARY KEY (row_number)", "ALTER TABLE posts ADD UNIQUE (row_number)",
    "ALTER TABLE posts ADD PRIMARY KEY (post_id, row_number)",
    """
    CREATE UNIQUE INDEX other ON posts (row_number);
    ALTER TABLE posts ALTER row_number SET NOT NULL, REPLICA IDENTITY USING INDEX other
    """,
  ]

  /// A hold keeps its holders and its former values if the table gets another key.
  @Test(arguments: otherKeys)
  func aChangedPrimaryKeyKeepsEveryHold(key: String) async throws {
    let shop = Shop(
      set: "{visibility: protected}", restore: "former",
      reachedSet: "{visibility: protected, latitude: null}")
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([9: "protected"], [2: "protected"], checks: false)
      try await nights.change(SQL(trusted: key))
      // A further holder is added, and a scrubbed value is removed from the hold.
      try await nights.run([10: "geo_scrubbed"], [1: "protected", 2: "protected"], checks: false)
      try await nights.run([:], [1: "protected"], checks: false)
      #expect(try await nights.visibility(9) == "protected", "the author holds it")
      #expect(
        try await nights.rows("SELECT visibility, latitude FROM shop.posts WHERE post_id = 10")
          == ["(friends,)"], "a scrubbed value is not restored")
      try await nights.run(checks: false)
      #expect(
        try await nights.rows(
          "SELECT post_id, visibility, latitude FROM shop.posts WHERE post_id < 10")
          == ["(8,public,1.5)", "(9,internal,2.5)"])
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  /// A row cannot be found by the new key, because it is missing. Its hold ends, and the former key is forgotten then.
  @Test func theHoldOfAMissingRowEndsAfterAChangeOfTheKey() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([8: "protected", 9: "protected"], checks: false)
      try await nights.change("DELETE FROM posts WHERE post_id = 9")
      try await nights.change(SQL(trusted: try #require(Self.otherKeys.first)))
      try await nights.run([8: "protected", 10: "geo_scrubbed"], checks: false)
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(1)"])
      #expect(
        try await nights.rows(
          "SELECT outcome FROM lethe.closed_hold WHERE table_name = 'shop.posts'") == ["(gone)"])
      let keys = try await nights.rows(
        """
        SELECT DISTINCT k.key_columns = ARRAY (SELECT jsonb_object_keys(h.row_key) ORDER BY 1)
        FROM lethe.held_key AS k JOIN lethe.hold AS h USING (table_name)
        """)
      #expect(keys == ["(t)"])
    }
  }

  /// A held column is dropped. The other held columns are still restored.
  @Test func aDroppedColumnIsNotRestored() async throws {
    let shop = Shop(
      set: "{visibility: protected}", restore: "former",
      reachedSet: "{visibility: protected, latitude: null}",
      postActions: ["geo_scrubbed": "ignore"])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([:], [2: "protected"], checks: false)
      try nights.edit(
        "set: {visibility: protected, latitude: null}", to: "set: {visibility: protected}")
      try await nights.change("ALTER TABLE posts DROP latitude")
      try await nights.run(checks: false)
      #expect(try await nights.visibility(10) == "friends")
    }
  }

  /// A row is deleted by a cascade. Its hold is deleted too, with the former values.
  @Test func aCascadedDeletionDeletesTheHold() async throws {
    let rows =
      Self.rows + """
        ; ALTER TABLE posts ADD FOREIGN KEY (author_id) REFERENCES users ON DELETE CASCADE
        """
    let shop = Shop(
      restore: "former", postActions: ["deleted": "ignore"], userActions: ["deleted": "delete"],
      reachedActions: ["deleted": "ignore"])
    try await NightlyFixture.with(shop, rows) { nights in
      try await nights.run([9: "protected"], [1: "protected"], checks: false)
      try await nights.run([9: "deactivated"], [1: "deleted"], checks: false)
      #expect(
        try await nights.rows("SELECT count(*) FROM shop.posts WHERE author_id = 1") == ["(0)"])
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  /// The table has another name for some time. The ledger keeps the table's holds.
  @Test func aMissingTableKeepsItsHolds() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([:], [2: "protected"], checks: false)
      let definition = nights.definition
      let users = try HoldDefinitionTests.singleDataset("users", definition)
      let bare = try #require(users.range(of: "    targets:")).lowerBound
      try nights.edit(definition, to: String(users[..<bare]))
      try await nights.execute("ALTER TABLE shop.posts RENAME TO old_posts")
      try await nights.run(checks: false)
      #expect(try await nights.rows("SELECT table_name FROM lethe.hold") == ["(shop.posts)"])
      let findings = try await nights.findings().filter { $0.message.contains("cannot be found") }
      #expect(findings.map { $0.message.contains("shop.posts") } == [true])
      try await nights.execute("ALTER TABLE shop.old_posts RENAME TO posts")
      try await nights.run(checks: false)
      #expect(try await nights.visibility(10) == "friends")
    }
  }
}
