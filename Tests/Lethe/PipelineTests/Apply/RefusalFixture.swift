import Definitions
import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// A warehouse with 100 posts and 10 users. Every fourth ID is deleted, but every eighth ID is protected instead. Post
/// 12 has lost its location. There are ten chunks of posts and one chunk of users.
struct RefusalFixture: Sendable {
  let base: PipelineFixture
  let url: String

  static let posts = 100

  /// Returns the API's answer about an ID. Nil if the ID is clean.
  static func answer(_ id: Int64) -> String? {
    if id == 12 { return CollectTests.event(id, "scrub_geo", "geo_scrubbed") }
    if id % 8 == 0 { return CollectTests.event(id, "delete", "protected") }
    return id % 4 == 0 ? CollectTests.event(id) : nil
  }

  static func answers(_ ids: [Int64]) -> String { ids.compactMap(answer).joined() }

  static func with(
    _ result: @escaping @Sendable ([Int64]) -> String = answers,
    posts: Int = posts, configure: (inout ScriptedAPI.Script) -> Void = { _ in },
    _ body: @escaping @Sendable (RefusalFixture) async throws -> Void
  ) async throws {
    var script = ScriptedAPI.Script()
    script.result = result
    configure(&script)
    let api = ScriptedAPI(script)
    try await PipelineFixture.with { base in
      try await base.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, latitude, created_at)
        SELECT p, 1, 'text of ' || p, 1, now() FROM generate_series(1, \(literal: posts)) AS p;
        INSERT INTO warehouse.users (user_id, username, created_at)
        SELECT 1000 + u, 'user' || u, now() FROM generate_series(1, 10) AS u;
        """)
      try await api.serving { url in try await body(RefusalFixture(base: base, url: url)) }
    }
  }

  // MARK: The pipeline

  /// - Parameters:
  ///   - batch: the batch setting of the dataset of posts.
  ///   - ids: the number of IDs in a chunk.
  static func definition(_ batch: String, ids: Int) -> (String) -> String {
    {
      $0.editing("batch: 20", to: batch).editing("{ids: 700}", to: "{ids: \(ids)}")
        .editing("max_redacted_percent: 60", to: "max_redacted_percent: 100")
    }
  }

  func pipeline(batch: String = "batch: 20", ids: Int = 10) throws -> Pipeline {
    try base.pipeline(api: url, Self.definition(batch, ids: ids))
  }

  func file(batch: String = "batch: 20", ids: Int = 10) throws -> String {
    try base.definitionFile(Self.definition(batch, ids: ids))
  }

  func run(_ pipeline: Pipeline) async throws -> [RunReport] {
    try await base.withRuntime(pipeline) { try await $0.run() }
  }

  func retry(
    _ pipeline: Pipeline, _ chunkID: Int64? = nil, ids: Set<Int64> = []
  ) async throws -> RunReport? {
    try await base.withRuntime(pipeline) {
      try await $0.retry(chunkID: chunkID, ids: ids).runs.last
    }
  }

  /// Runs `lethe` against the scripted API.
  func lethe(_ arguments: String...) async throws -> Program.Result {
    try await Program.run(
      "lethe", arguments,
      environment: base.environment.merging(["COMPLIANCE_API_URL": url]) { $1 })
  }

  // MARK: Results

  /// Returns the posts that do not match the API's answers. They are not deleted, not hidden, or still have a location.
  func unfinishedPosts() async throws -> [Int64] {
    try await base.database.withConnection {
      try await $0.query(
        """
        SELECT post_id FROM warehouse.posts
        WHERE post_id % 4 = 0
          AND CASE WHEN post_id = 12 THEN latitude IS NOT NULL
                   WHEN post_id % 8 = 0 THEN visibility <> 'protected' ELSE true END
        ORDER BY post_id
        """
      ).rows(as: Int64.self)
    }
  }

  /// Returns the number of clean posts that were changed.
  func damagedPosts() async throws -> Int {
    try await base.value(
      """
      SELECT count(*) FROM generate_series(1, \(literal: Self.posts)) AS id
      LEFT JOIN warehouse.posts ON post_id = id
      WHERE id % 4 <> 0 AND (text, latitude, visibility) IS DISTINCT FROM ('text of ' || id, 1, 'public')
      """, as: Int.self)
  }

  func usersLeft() async throws -> String {
    try await base.value(
      """
      SELECT string_agg(user_id || ' ' || visibility, ', ' ORDER BY user_id) FROM warehouse.users
      WHERE user_id % 4 = 0
      """, as: String.self)
  }

  /// Returns the content of the ledger as text: runs, chunks, jobs, refusals, seals and events.
  func ledgerText() async throws -> String {
    try await base.value(
      """
      SELECT string_agg(t, ' ') FROM (
        SELECT r::text FROM lethe.run AS r UNION ALL SELECT c::text FROM lethe.chunk AS c
        UNION ALL SELECT j::text FROM lethe.job AS j UNION ALL SELECT f::text FROM lethe.refusal AS f
        UNION ALL SELECT s::text FROM lethe.seal AS s UNION ALL SELECT e::text FROM lethe.event AS e
      ) AS entries (t)
      """, as: String.self)
  }
}
