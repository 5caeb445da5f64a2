import Definitions
import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

@Suite struct WholePipelineTests {
  @Test func aRunMakesTheWarehouseMatchThePlatform() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples()
      let pipeline = try fixture.pipeline()
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }

      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
      let report = try #require(reports.first)
      #expect(reports.count == 1)
      #expect(report.status == .done)
      let posts = try #require(report.datasets["posts"])
      #expect(posts.ids == 2000)
      #expect(posts.chunks == 3)
      #expect(posts.jobs == 3)
      #expect(posts.quarantined == 0)
      #expect(Set(posts.seconds.keys) == ["export", "submit", "await", "collect", "apply"])
      // Count the deleted rows in the tables, because the test checks the numbers that Lethe reports.
      let gone = try await fixture.value(
        """
        SELECT count(*) FROM before.posts AS b
        WHERE NOT EXISTS (SELECT FROM warehouse.posts AS p WHERE p.post_id = b.post_id)
        """, as: Int.self)
      let deleted = report.datasets.values.compactMap { $0.rows["warehouse.posts"]?["delete"] }
      #expect(deleted.reduce(0, +) == gone)
      #expect(gone > 0)
    }
  }

  @Test func aSecondRunChangesNoRow() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples()
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      try await fixture.execute(
        """
        CREATE SCHEMA touched;
        CREATE FUNCTION touched.refuse() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN RAISE EXCEPTION ''a row was touched''; END';
        CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON warehouse.posts
          FOR EACH ROW EXECUTE FUNCTION touched.refuse();
        CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON warehouse.users
          FOR EACH ROW EXECUTE FUNCTION touched.refuse();
        """)
      let second = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(second.map(\.status) == [.done])
      #expect(second.first?.rowsChanged == 0)
      #expect(try #require(second.first?.datasets["posts"]).events > 0)
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func tombstonesMatchTheDeletedRowsAndRehydrationsMatchTheEditedPosts() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples()
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      let wrong = try await fixture.value(
        """
        WITH gone AS (
          SELECT 'tweets' AS type, post_id AS id FROM before.posts EXCEPT
          SELECT 'tweets', post_id FROM warehouse.posts
          UNION ALL
          (SELECT 'users', user_id FROM before.users EXCEPT SELECT 'users', user_id FROM warehouse.users)
          UNION ALL
          (SELECT 'tweets', repost_id FROM before.reposts EXCEPT
           SELECT 'tweets', repost_id FROM warehouse.reposts)
        ), kept AS (SELECT type::text, id FROM lethe.tombstone)
        SELECT (SELECT count(*) FROM (TABLE gone EXCEPT TABLE kept) AS missing)
             + (SELECT count(*) FROM (TABLE kept EXCEPT TABLE gone) AS extra)
        """, as: Int.self)
      #expect(wrong == 0)
      let edited = try await fixture.value(
        """
        SELECT count(*) FROM (
          (SELECT p.post_id FROM platform.posts AS p
           JOIN platform.accounts AS a ON a.account_id = p.author_id JOIN before.posts USING (post_id)
           WHERE edited_at IS NOT NULL AND deleted_at IS NULL AND state = 'active'
           EXCEPT SELECT id FROM lethe.rehydration)
          UNION ALL
          (SELECT id FROM lethe.rehydration EXCEPT
           SELECT post_id FROM platform.posts WHERE edited_at IS NOT NULL)) AS wrong
        """, as: Int.self)
      #expect(edited == 0)
    }
  }

  @Test func anIDThatIsCleanAgainIsRestored() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples()
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      let hidden = try await fixture.value(
        "SELECT count(*) FROM warehouse.posts WHERE visibility = 'protected'", as: Int.self)
      #expect(hidden > 0)
      // All accounts except account 1 become public. Another writer hides one post, so this post stays hidden.
      try await fixture.execute(
        """
        UPDATE platform.accounts SET state = 'active' WHERE state = 'protected' AND account_id <> 1;
        UPDATE warehouse.posts SET visibility = 'protected'
        WHERE post_id = (SELECT min(post_id) FROM warehouse.posts WHERE visibility = 'public');
        """)
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(reports.first?.datasets["users"]?.rows["warehouse.users"]?["restore"] ?? 0 > 0)
      let wrong = try await fixture.value(
        """
        SELECT count(*) FROM warehouse.users
        WHERE (visibility = 'protected') <> (user_id = 1)
        """, as: Int.self)
      #expect(wrong == 0)
      let stillHidden = try await fixture.value(
        "SELECT count(*) FROM warehouse.posts WHERE visibility = 'protected' AND author_id <> 1",
        as: Int.self)
      #expect(stillHidden == 1)
    }
  }

  /// Two protected accounts hide the same row. The row is restored when both accounts are public, in any order.
  @Test(arguments: [5, 6])
  func aRowStaysHiddenWhileAnotherProtectedIDReachesIt(publicFirst: Int) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        SELECT a, 'user', now(), 'protected', now() FROM generate_series(5, 6) AS a;
        INSERT INTO warehouse.users (user_id, username, created_at)
        SELECT account_id, username, created_at FROM platform.accounts;
        ALTER TABLE warehouse.posts ADD quoted_author_id bigint;
        INSERT INTO warehouse.posts (post_id, author_id, quoted_author_id, text, created_at)
        VALUES (100, 5, 6, 'a quote', now());
        """)
      let pipeline = try fixture.pipeline { definition in
        definition.editing(
          """
              targets:
                - table: warehouse.posts
                  match: author_id
          """,
          to: """
                targets:
                  - table: warehouse.posts
                    match: quoted_author_id
                    actions:
                      protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
                  - table: warehouse.posts
                    match: author_id
            """
        ).editing("max_redacted_percent: 60", to: "max_redacted_percent: 100")
      }
      var seen: [String] = []
      for account in [0, publicFirst, 11 - publicFirst] {
        try await fixture.execute(
          "UPDATE platform.accounts SET state = 'active' WHERE account_id = \(account)")
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
        seen.append(
          try await fixture.value("SELECT visibility FROM warehouse.posts", as: String.self))
      }
      #expect(seen == ["protected", "protected", "public"])
    }
  }

  @Test func aRunOfAnEmptyWarehouseEndsImmediately() async throws {
    try await PipelineFixture.with { fixture in
      let pipeline = try fixture.pipeline()
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(reports.map(\.status) == [.done])
      #expect(reports.first?.datasets["posts"]?.ids == 0)
      #expect(fixture.gate.history.isEmpty)
    }
  }

  @Test func aChunkInOneTransactionHasTheSameResult() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples()
      let pipeline = try fixture.pipeline { $0.editing("batch: 20", to: "atomic: chunk") }
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
      let transactions = try await fixture.value(
        """
        SELECT max(n) FROM (
          SELECT count(DISTINCT applied_at) AS n FROM lethe.event
          WHERE type = 'tweets' AND cause_id IS NULL GROUP BY chunk_id
        ) AS chunks
        """, as: Int.self)
      #expect(transactions == 1)
    }
  }

  @Test func theStagesOneByOneHaveTheResultOfARun() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples()
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { runtime in
        #expect(try await runtime.export().chunks == 4)
        #expect(try await runtime.export().chunks == 0)
        var submitted = 0
        while case let report = try await runtime.submit(), report.chunks > 0 {
          submitted += report.chunks
          // Each job type has an active job, so a second call submits nothing.
          #expect(try await runtime.submit().chunks == 0)
          #expect(try await runtime.awaitJobs().chunks == report.chunks)
        }
        #expect(submitted == 4)
        func files() throws -> Int {
          try FileManager.default.subpathsOfDirectory(atPath: fixture.workDirectory)
            .filter { $0.hasSuffix(".ids") }.count
        }
        #expect(try files() == 4)
        #expect(try await runtime.collect().chunks == 4)
        // The apply stage needs only the ledger, so the files are deleted already.
        #expect(try files() == 0)
        let applied = try await runtime.apply()
        #expect(applied.chunks == 4)
        #expect(applied.runs.map(\.status) == [.done])
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }
}
