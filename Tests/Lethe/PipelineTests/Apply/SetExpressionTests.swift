import PostgreSQL
import Runtime
import TestSupport
import Testing

/// The values `now()` and `current_date`. They are evaluated once for a row, and not again in each run.
@Suite struct SetExpressionTests {
  static let rows = """
    ALTER TABLE posts ADD hidden_at timestamptz, ADD deleted_on date, ADD at timestamp;
    ALTER TABLE users ADD deleted_at timestamptz;
    INSERT INTO users VALUES (1, 'one');
    INSERT INTO posts (post_id, author_id, visibility) VALUES
      (8, 1, 'public'), (9, 1, 'internal'), (10, 2, 'friends')
    """

  private static let versions: SQL =
    "SELECT post_id, xmin, hidden_at, deleted_on, at FROM shop.posts"

  /// A soft delete, as ORMs use it, in two runs with the same answer.
  @Test(arguments: ["now()", "NOW()", " current_date "])
  func aSoftDeleteKeepsItsFirstTime(expression: String) async throws {
    let shop = Shop(postActions: [
      "deleted": "{redact: {hidden_at: '\(expression)', deleted_on: current_date}}"
    ])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([9: "deleted"], checks: false)
      let first = try await nights.rows(Self.versions)
      #expect(
        try await nights.rows(
          "SELECT hidden_at IS NULL, deleted_on IS NULL FROM shop.posts WHERE post_id = 9") == [
            "(f,f)"
          ])
      let again = try await nights.run([9: "deleted"], checks: false)
      #expect(try await nights.rows(Self.versions) == first)
      #expect(again.rowsChanged == 0)
    }
  }

  /// The time is set again only if it is NULL, or if another column of the action must change.
  @Test func theTimeIsSetAgainWhenAnotherColumnChanges() async throws {
    let shop = Shop(postActions: ["deleted": "{redact: {text: '', at: now()}}"])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([9: "deleted"], checks: false)
      let first = try await nights.rows("SELECT at FROM shop.posts WHERE post_id = 9")
      try await nights.execute("UPDATE shop.posts SET text = 'back again' WHERE post_id = 9")
      try await nights.run([9: "deleted"], checks: false)
      #expect(try await nights.rows("SELECT at FROM shop.posts WHERE post_id = 9") != first)
      try await nights.execute("UPDATE shop.posts SET at = NULL WHERE post_id = 9")
      try await nights.run([9: "deleted"], checks: false)
      #expect(
        try await nights.rows("SELECT at IS NULL FROM shop.posts WHERE post_id = 9") == ["(f)"])
    }
  }

  /// A repeated answer keeps the time that was set, and a restore writes the former value.
  @Test(arguments: ["NULL", "'2020-01-02 03:04:05Z'"])
  func aHiddenRowGetsItsFormerTimeBack(former: String) async throws {
    let shop = Shop(set: "{visibility: protected, hidden_at: now()}", restore: "former")
    let rows =
      Self.rows
      + "; UPDATE posts SET hidden_at = \(former); ALTER TABLE users ADD hidden_at timestamptz"
    try await NightlyFixture.with(shop, rows) { nights in
      let before = try await nights.rows(
        "SELECT hidden_at, visibility FROM shop.posts WHERE post_id = 9")
      try await nights.run([9: "protected"], checks: false)
      let hidden = try await nights.rows(Self.versions)
      #expect(
        try await nights.rows(
          "SELECT hidden_at > now() - interval '1 hour' FROM shop.posts WHERE post_id = 9") == [
            "(t)"
          ])
      try await nights.run([9: "protected"], checks: false)
      #expect(try await nights.rows(Self.versions) == hidden, "a repeated answer changed a row")
      try await nights.run(checks: false)
      #expect(
        try await nights.rows("SELECT hidden_at, visibility FROM shop.posts WHERE post_id = 9")
          == before)
    }
  }
}
