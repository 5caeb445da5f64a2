import Definitions
import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Deleted rows of targets get event records and tombstones with the type of their own IDs.
@Suite struct TypedTargetTests {
  static let tables: SQL = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.users (user_id bigint PRIMARY KEY, post_id bigint);
    CREATE TABLE shop.posts (post_id bigint PRIMARY KEY, author_id bigint);
    CREATE TABLE shop.lists (list_id bigint PRIMARY KEY, owner_id bigint);
    CREATE TABLE shop.members (list_id bigint, user_id bigint);
    CREATE INDEX ON shop.users (post_id); CREATE INDEX ON shop.posts (author_id);
    CREATE INDEX ON shop.lists (owner_id); CREATE INDEX ON shop.members (list_id);
    INSERT INTO shop.users VALUES (1, NULL), (2, 60), (3, 61);
    INSERT INTO shop.posts VALUES (5, 1), (6, 2), (7, 2), (8, 3), (60, 3), (61, 3);
    INSERT INTO shop.lists VALUES (7, 1), (8, 1), (9, 2);
    INSERT INTO shop.members VALUES (7, 2), (8, 3), (9, 3);
    """

  /// - Parameters:
  ///   - listType: the type of the lists, which are deleted with their owner.
  ///   - pinned: the type of the target that finds users by their pinned post.
  static func yaml(listType: String, pinned: String = "users") -> String {
    """
    name: typed
    warehouse: ${DATABASE_URL}
    api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05}
    limits: {max_redacted_percent: 100, max_redacted_rows: 1000, allow_whole_chunks: true}
    datasets:
      users:
        type: users
        table: shop.users
        id: user_id
        actions: {deleted: delete, suspended: ignore, deactivated: ignore, protected: ignore}
        targets:
          - table: shop.lists
            match: owner_id
            id: list_id
            type: \(listType)
            actions: {deleted: delete}
            targets: [{table: shop.members, match: list_id, actions: {deleted: delete}}]
          - {table: shop.posts, match: author_id, id: post_id, actions: {deleted: delete}}
      posts:
        type: tweets
        table: shop.posts
        id: post_id
        actions:
          deleted: delete
          bounced: ignore
          suspended: ignore
          deactivated: ignore
          protected: ignore
          geo_scrubbed: ignore
          tweet_edited: ignore
        targets:
          - {table: shop.users, match: post_id, id: user_id, type: \(pinned), actions: {deleted: delete}}
    """
  }

  /// Runs `body` with the tables and an API that reports each ID of `deleted` as deleted.
  static func withFixture<R: Sendable>(
    deleted: [String: [Int64]], _ body: @escaping @Sendable (PipelineFixture) async throws -> R
  ) async throws -> R {
    try await withTestDatabase(.ledger) { database in
      let all = Set(deleted.values.joined())
      let script = ScriptedAPI.Script { ids in
        ids.filter { all.contains($0) }.map { CollectTests.event($0) }.joined()
      }
      return try await ScriptedAPI(script).serving { url in
        let fixture = PipelineFixture(
          database: database, service: url, gate: TestGate(),
          directory: FileManager.default.temporaryDirectory
            .appending(path: "typed-\(database.name)").path)
        defer { try? FileManager.default.removeItem(atPath: fixture.directory) }
        try await fixture.execute(tables)
        return try await body(fixture)
      }
    }
  }

  private static func texts(_ fixture: PipelineFixture, _ sql: SQL) async throws -> [String] {
    try await fixture.database.withConnection {
      try await $0.query(sql).rows(as: String.self)
    }
  }

  /// The deletion of user 1 also deletes the lists 7 and 8 and post 5. The deletion of post 60 also deletes user 2, who
  /// pinned that post.
  @Test(arguments: [
    (
      "none", "users", ["tweets/5", "tweets/60", "users/1", "users/2"],
      ["tweets/5 of 1", "users/2 of 60"]
    ),
    (
      "tweets", "none", ["tweets/5", "tweets/60", "tweets/7", "tweets/8", "users/1"],
      ["tweets/5 of 1", "tweets/7 of 1", "tweets/8 of 1"]
    ),
    (
      "users", "users", ["tweets/5", "tweets/60", "users/1", "users/2", "users/7", "users/8"],
      ["tweets/5 of 1", "users/2 of 60", "users/7 of 1", "users/8 of 1"]
    ),
  ])
  func deletedRowsLeaveTombstonesOfTheirType(
    listType: String, pinned: String, tombstones: [String], records: [String]
  ) async throws {
    try await Self.withFixture(deleted: ["users": [1], "posts": [60]]) { fixture in
      let pipeline = try fixture.pipeline { _ in Self.yaml(listType: listType, pinned: pinned) }
      let report = try await fixture.withRuntime(pipeline) { try await $0.run() }.last
      #expect(report?.status == .done)
      #expect(
        try await Self.texts(
          fixture, "SELECT type || '/' || id FROM lethe.tombstone ORDER BY 1") == tombstones)
      #expect(
        try await Self.texts(
          fixture,
          """
          SELECT type || '/' || id || ' of ' || cause_id FROM lethe.event
          WHERE cause_id IS NOT NULL ORDER BY 1
          """) == records)
      // The members of the lists are deleted too, for every type of list ID.
      #expect(
        try await Self.texts(fixture, "SELECT list_id::text FROM shop.members") == ["9"])
      #expect(try await Self.texts(fixture, "SELECT list_id::text FROM shop.lists") == ["9"])
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  /// The deletion of a list leaves no tombstone of a post. So the guard accepts a post with the list's ID.
  @Test func theGuardAcceptsAPostWithTheIDOfADeletedList() async throws {
    try await Self.withFixture(deleted: ["users": [1]]) { fixture in
      let pipeline = try fixture.pipeline { _ in Self.yaml(listType: "none") }
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      let installed = try await Program.run(
        "lethe", ["guard", "install", "shop.posts", "--id", "post_id"],
        environment: fixture.environment)
      #expect(installed.code == 0, "\(installed.stderr)")
      try await fixture.execute(
        "DELETE FROM shop.posts; INSERT INTO shop.posts VALUES (5, 1), (7, 2), (8, 2)")
      #expect(
        try await Self.texts(fixture, "SELECT post_id::text FROM shop.posts ORDER BY 1")
          == ["7", "8"])
    }
  }
}
