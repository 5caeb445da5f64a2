import PostgreSQL
import Runtime
import TestSupport
import Testing

/// A value that an action removes from a row is also removed from the row's hold. A reason that keeps the row also
/// keeps the row's holders.
@Suite struct HoldContentTests {
  static let rows = """
    INSERT INTO users VALUES (1, 'one');
    INSERT INTO posts (post_id, author_id, text, visibility, latitude, raw) VALUES
      (9, 1, 'words', 'internal', 1.5, '{"geo": {"x": 1}, "lang": "en", "place": {"name": "here", "id": 5}}')
    """

  static let post: SQL = "SELECT visibility, text, latitude, raw FROM shop.posts"

  /// Reasons that keep a post's row and do not mean that the post is public again.
  @Test(
    arguments: sampled(
      ["deleted", "bounced", "suspended", "deactivated"], ["ignore", "{redact: {text: ''}}"], 4))
  func aKeptPostStaysHiddenUntilItsAnswerIsClean(reason: String, action: String) async throws {
    try await NightlyFixture.with(Shop(postActions: [reason: action]), Self.rows) { nights in
      try await nights.run([9: "protected"])
      if action != "ignore" { try await nights.changeCopy("UPDATE posts SET text = ''") }
      for _ in 0..<2 {
        try await nights.run([9: reason])
        #expect(try await nights.visibility(9) == "protected")
      }
      try await nights.run()
      #expect(try await nights.visibility(9) == "internal")
    }
  }

  /// The action on the user's own row, and the action on the user's posts.
  static let keeping: [(own: String, reached: String)] = [
    ("ignore", "ignore"), ("ignore", "{redact: {text: ''}}"), ("{redact: {name: ''}}", "ignore"),
    ("{redact: {name: ''}}", "{redact: {text: ''}}"), ("delete", "ignore"),
  ]

  @Test(arguments: sampled(["deleted", "suspended", "deactivated"], keeping, 6))
  func aKeptUserHidesThePostsUntilTheAnswerIsClean(
    reason: String, action: (own: String, reached: String)
  ) async throws {
    let shop = Shop(
      userActions: [reason: action.own],
      reachedActions: ["deleted": "ignore"].merging([reason: action.reached]) { $1 })
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([:], [1: "protected"])
      switch action.own {
      case "ignore": break
      case "delete": try await nights.changeCopy("DELETE FROM users")
      default: try await nights.changeCopy("UPDATE users SET name = ''")
      }
      if action.reached != "ignore" { try await nights.changeCopy("UPDATE posts SET text = ''") }
      for _ in 0..<2 {
        try await nights.run([:], [1: reason])
        #expect(try await nights.visibility(9) == "protected")
      }
      if action.own == "delete" {
        // The user's row is deleted, so Lethe does not ask about the user. The posts stay hidden until the user's row
        // exists again.
        try await nights.run()
        #expect(try await nights.visibility(9) == "protected")
        try await nights.change("INSERT INTO users VALUES (1, 'again')")
      }
      try await nights.run()
      #expect(try await nights.visibility(9) == "internal")
    }
  }

  /// `protected` has priority over these reasons, so such an answer means that the ID is not protected.
  @Test(arguments: ["geo_scrubbed", "tweet_edited"], Shop.Order.allCases)
  func anAnswerOfLowerPriorityThanProtectedReleasesThePost(
    reason: String, order: Shop.Order
  ) async throws {
    try await NightlyFixture.with(Shop(order: order), Self.rows) { nights in
      try await nights.run([9: "protected"])
      if reason == "geo_scrubbed" {
        try await nights.changeCopy("UPDATE posts SET latitude = NULL, raw = raw - 'geo'")
      }
      try await nights.run([9: reason])
      #expect(try await nights.visibility(9) == "internal")
    }
  }

  // MARK: Removed values are never restored

  struct Removal: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// The values that both holders set. The holders are the post's own ID and its author.
    let set: String
    let reason: String
    let action: String
    /// The post after its last holder is released, in the columns of `HoldContentTests.post`.
    let left: String
  }

  static let removals: [Removal] = [
    Removal(
      testDescription: "a location that protect had also removed",
      set: "{visibility: protected, latitude: null}", reason: "geo_scrubbed",
      action: "{scrub_geo: {latitude: null}}",
      left:
        #"(internal,words,,"{""geo"": {""x"": 1}, ""lang"": ""en"", ""place"": {""id"": 5, ""name"": ""here""}}")"#
    ),
    Removal(
      testDescription: "a text that protect had emptied",
      set: "{visibility: protected, text: ''}", reason: "deleted",
      action: "{redact: {text: ''}}",
      left:
        #"(internal,"",1.5,"{""geo"": {""x"": 1}, ""lang"": ""en"", ""place"": {""id"": 5, ""name"": ""here""}}")"#
    ),
    Removal(
      testDescription: "a text that is set to a value other than the one of protect",
      set: "{visibility: protected, text: ''}", reason: "suspended",
      action: "{redact: {text: gone}}",
      left:
        #"(internal,gone,1.5,"{""geo"": {""x"": 1}, ""lang"": ""en"", ""place"": {""id"": 5, ""name"": ""here""}}")"#
    ),
    Removal(
      testDescription: "a key of a JSON column that protect had emptied",
      set: "{visibility: protected, raw: '{}'}", reason: "geo_scrubbed",
      action: "{scrub_geo: {latitude: null, raw: [geo]}}",
      left: #"(internal,words,,"{""lang"": ""en"", ""place"": {""id"": 5, ""name"": ""here""}}")"#),
    Removal(
      testDescription: "paths of a JSON column that protect had set to NULL",
      set: "{visibility: protected, raw: null}", reason: "geo_scrubbed",
      action: "{scrub_geo: {latitude: null, raw: [geo.x, place.name, absent.key]}}",
      left: #"(internal,words,,"{""geo"": {}, ""lang"": ""en"", ""place"": {""id"": 5}}")"#),
    Removal(
      testDescription: "a whole JSON column that protect had emptied",
      set: "{visibility: protected, raw: '{}'}", reason: "deactivated",
      action: "{redact: [raw, text]}", left: "(internal,,1.5,)"),
    Removal(
      testDescription: "the column that hides the row",
      set: "{visibility: protected}", reason: "deleted",
      action: "{redact: {visibility: erased, text: ''}}",
      left:
        #"(erased,"",1.5,"{""geo"": {""x"": 1}, ""lang"": ""en"", ""place"": {""id"": 5, ""name"": ""here""}}")"#
    ),
  ]

  /// The post is hidden by its own ID, by its author, or by both.
  @Test(arguments: sampled(removals, [[true, false], [false, true], [true, true]], 8))
  func aValueThatIsRemovedFromTheRowIsRemovedFromTheHold(removal: Removal, by holders: [Bool])
    async throws
  {
    // The users' table does not have all columns of `set`.
    var shop = Shop(
      set: removal.set, restore: "former", postActions: [removal.reason: removal.action],
      userActions: ["protected": "{protect: {set: {visibility: protected}, restore: former}}"])
    shop.reachedSet = removal.set
    try await NightlyFixture.with(shop, Self.rows) { nights in
      let own: [Int64: String] = holders[0] ? [9: "protected"] : [:]
      let author: [Int64: String] = holders[1] ? [1: "protected"] : [:]
      try await nights.run(own, author, checks: false)
      try await nights.run([9: removal.reason], author, checks: false)
      try await nights.run([:], author, checks: false)
      try await nights.run(checks: false)
      #expect(try await nights.rows(Self.post) == [removal.left])
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  /// The other order: the value is removed first, and the row is hidden afterwards.
  @Test func aValueThatWasRemovedBeforeIsNotPartOfTheHold() async throws {
    let shop = Shop(
      set: "{visibility: protected, text: hidden}", restore: "former",
      postActions: ["deleted": "{redact: {text: ''}}"],
      userActions: ["protected": "{protect: {set: {visibility: protected}, restore: former}}"])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([9: "deleted"], checks: false)
      try await nights.run([9: "protected"], checks: false)
      try await nights.run(checks: false)
      #expect(
        try await nights.rows("SELECT visibility, text FROM shop.posts") == [#"(internal,"")"#])
    }
  }

  /// Lethe scrubs a row after its export and before its release. This write of Lethe does not prevent the restore.
  @Test(arguments: Shop.Order.allCases)
  func lethesOwnWritesDoNotPreventARestore(order: Shop.Order) async throws {
    let shop = Shop(order: order, userActions: ["deactivated": "{redact: {name: ''}}"])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([9: "protected"], [1: "protected"])
      try await nights.changeCopy("UPDATE posts SET latitude = NULL, raw = raw - 'geo'")
      // The posts' dataset scrubs the row, and the users' dataset restores it, in either order.
      try await nights.run([9: "geo_scrubbed"])
      #expect(try await nights.visibility(9) == "internal")
    }
  }

  /// A reason that empties a row also removes the row's former values from the ledger.
  @Test func theLedgerKeepsNoTextOfARowThatWasEmptied() async throws {
    var shop = Shop(
      set: "{visibility: protected, text: ''}", restore: "former",
      postActions: ["deleted": "{redact: {text: '', raw: [lang]}}"],
      userActions: ["protected": "{protect: {set: {visibility: protected}, restore: former}}"])
    shop.reachedSet = "{visibility: protected, text: '', raw: '{}'}"
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([9: "protected"], [1: "protected"], checks: false)
      let kept: SQL = "SELECT count(*) FROM lethe.hold AS h WHERE h::text ~ 'words|\\men\\M'"
      #expect(try await nights.rows(kept) == ["(1)"])
      try await nights.run([9: "deleted"], [1: "protected"], checks: false)
      #expect(try await nights.rows(kept) == ["(0)"])
    }
  }
}
