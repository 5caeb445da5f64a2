import PostgreSQL
import TestSupport
import Testing

/// The commands `lethe holds list` and `lethe holds release`, with text and JSON output.
@Suite struct HoldsCommandTests {
  static let rows = """
    INSERT INTO users VALUES (1, 'one'), (2, 'two');
    INSERT INTO posts (post_id, author_id, text, visibility) VALUES
      (8, 1, 'secret words', 'public'), (9, 1, 'secret words', 'internal'), (10, 2, 'x', 'friends')
    """

  @Test func holdsListShowsRowsAndHoldersAndNoContent() async throws {
    let shop = Shop(
      set: "{visibility: protected, text: ''}", restore: "former",
      reachedSet: "{visibility: protected}")
    let rows = "ALTER TABLE users ADD text text; \(Self.rows)"
    try await NightlyFixture.with(shop, rows) { nights in
      try await nights.run([9: "protected"], [1: "protected"], checks: false)
      let listed = try await nights.lethe(
        "holds", "list", "--database", nights.url, "--output", "json")
      #expect(listed.code == 0)
      #expect(listed.json["held_rows"] as? Int == 3)
      #expect(listed.json["holding_ids"] as? Int == 2)
      #expect(!listed.stdout.contains("secret") && !listed.stdout.contains("internal"))
      let nine = try await nights.lethe(
        "holds", "list", "--database", nights.url, "--output", "json", "--id", "9", "--table",
        "shop.posts")
      let holds = try #require(nine.json["holds"] as? [[String: Any]])
      #expect(holds.count == 1)
      #expect(holds.first?["key"] as? String == #"{"post_id": "9"}"#)
      #expect(holds.first?["columns"] as? [String] == ["text", "visibility"])
      let holders = try #require(holds.first?["holders"] as? [[String: Any]])
      #expect(Set(holders.compactMap { $0["id"] as? String }) == ["1", "9"])
      let text = try await nights.lethe("holds", "list", "--database", nights.url)
      #expect(text.stdout.contains("3 rows are held in total, by 2 IDs"), "\(text.stdout)")
      let audit = try await nights.lethe(
        "audit", "show", "9", "--database", nights.url, "--output", "json")
      #expect((audit.json["holds"] as? [[String: Any]])?.count == 2)
    }
  }

  @Test func holdsReleaseRestoresRowsAndSealsTheRelease() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([9: "protected"], [1: "protected"])
      func release(_ arguments: String...) async throws -> Program.Result {
        try await nights.lethe(
          ["holds", "release", "PIPELINE", "--output", "json", "--type"] + arguments)
      }
      // The newest answer is that the author is protected.
      let nobody = try await release(
        "users", "1", "--force", "--note", "court order", "--by", " ")
      #expect(nobody.code == 2, "\(nobody)")
      let refused = try await release("users", "1", "--note", "court order")
      #expect(refused.code == 1)
      #expect("\(refused.json)".contains("protected"))
      #expect(try await nights.visibility(8) == "protected")
      let withoutNote = try await release("users", "1", "--force")
      #expect(withoutNote.code == 2)
      let dryRun = try await release("users", "1", "--force", "--dry-run")
      #expect(dryRun.json["opened"] as? Int == 2, "\(dryRun.stderr)")
      #expect(dryRun.json["held"] as? Int == 1)
      #expect(try await nights.visibility(8) == "protected")
      let released = try await release(
        "users", "1", "--force", "--note", "court order", "--by", "jo")
      #expect(released.code == 0, "\(released.stderr)")
      #expect(try await nights.visibility(8) == "public")
      #expect(try await nights.visibility(9) == "protected", "the post's own ID holds it")
      let audit = try await nights.lethe("audit", "show", "1", "--database", nights.url)
      #expect(audit.stdout.contains("jo: court order"), "\(audit.stdout)")
      let verified = try await nights.lethe("audit", "verify", "--database", nights.url)
      #expect(verified.code == 0, "\(verified.stdout)")
    }
  }

  @Test func aForgottenHoldLeavesItsRowsHidden() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([9: "protected"])
      let forgotten = try await nights.lethe(
        "holds", "release", "PIPELINE", "--type", "tweets", "9", "--keep-hidden", "--force",
        "--note", "ours now", "--output", "json")
      #expect(forgotten.json["forgotten"] as? Int == 1, "\(forgotten.stderr)")
      try await nights.run(checks: false)
      #expect(try await nights.visibility(9) == "protected")
      #expect(try await nights.rows("SELECT outcome FROM lethe.closed_hold") == ["(forgotten)"])
    }
  }

  @Test func holdsReleaseRestoresNoMoreRowsThanTheLimitAllows() async throws {
    try await NightlyFixture.with(
      Shop(restore: "former", limits: ", max_restored_rows: 1"), Self.rows
    ) {
      nights in
      try await nights.run([:], [1: "protected"])
      let over = try await nights.lethe(
        "holds", "release", "PIPELINE", "--type", "users", "1", "--force", "--note", "n",
        "--output", "json")
      #expect(over.code == 3)
      #expect(try await nights.visibility(8) == "protected")
      #expect(
        try await nights.rows("SELECT count(*) FROM lethe.seal WHERE kind = 'release'") == ["(0)"])
    }
  }

  /// The user's row is deleted, so Lethe no longer asks about the user.
  @Test func holdsOfIDsThatAreNoLongerExportedAreCountedAndCanBeReleased() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([:], [1: "protected", 2: "protected"])
      try await nights.change("DELETE FROM users WHERE user_id = 1")
      try await nights.run([:], [2: "protected"], checks: false)
      let status = try await nights.lethe(
        "status", "--database", nights.url, "--output", "json")
      let holds = try #require(status.json["holds"] as? [String: Any])
      #expect(holds["unasked_ids"] as? Int == 1)
      #expect((holds["unasked_rows"] as? Int ?? 0) >= 2)
      // An ID of the other type that no dataset exports holds the same rows. Each row counts once.
      let rows = holds["unasked_rows"] as? Int
      try await nights.execute(
        """
        INSERT INTO lethe.holder (hold_id, type, id, columns, pipeline, dataset, job_id, asked_at)
        SELECT hold_id, 'tweets', 999, columns, pipeline, dataset, job_id, asked_at FROM lethe.holder
        WHERE type = 'users' AND id = 1
        """)
      let both = try await nights.lethe("status", "--database", nights.url, "--output", "json")
      let counted = try #require(both.json["holds"] as? [String: Any])
      #expect(counted["unasked_ids"] as? Int == 2)
      #expect(counted["unasked_rows"] as? Int == rows)
      try await nights.execute("DELETE FROM lethe.holder WHERE id = 999")
      let released = try await nights.lethe(
        "holds", "release", "PIPELINE", "--type", "users", "--unasked", "--force", "--note", "gone",
        "--output", "json")
      #expect(released.code == 0, "\(released.stderr)")
      #expect(try await nights.visibility(8) == "public")
      #expect(try await nights.visibility(9) == "internal")
      #expect(try await nights.visibility(10) == "protected")
      let after = try await nights.lethe("status", "--database", nights.url, "--output", "json")
      #expect((after.json["holds"] as? [String: Any])?["unasked_ids"] as? Int == 0)
    }
  }
}
