import ApplyStage
import Definitions
import PostgreSQL
import Runtime
import TestSupport
import Testing

@Suite struct ApplyTests {
  /// Runs the stages up to collect, then lets `body` apply.
  private func collected(
    _ night: Night, _ pipeline: Pipeline,
    _ body: @escaping @Sendable (PipelineRuntime) async throws -> Void
  ) async throws {
    try await night.withRuntime(pipeline) { runtime in
      _ = try await runtime.export()
      while try await runtime.submit().chunks > 0 { _ = try await runtime.awaitJobs() }
      _ = try await runtime.collect()
      try await body(runtime)
    }
  }

  @Test(arguments: [
    ("max_redacted_percent: 60", "max_redacted_percent: 2", "max_redacted_percent is 2"),
    ("max_redacted_rows: 100000", "max_redacted_rows: 10", "max_redacted_rows is 10"),
  ])
  func aChunkOverTheLimitsStopsBeforeARowIsTouchedAndGoesOnWhenApproved(
    limit: String, tighter: String, reason: String
  ) async throws {
    try await Night.with { night in
      try await night.invent(posts: 500)
      let pipeline = try night.pipeline { $0.replacing(limit, with: tighter) }
      let stopped = try await night.withRuntime(pipeline) { try await $0.run() }
      let report = try #require(stopped.first)
      #expect(report.status == .stopped)
      #expect(report.rowsChanged == 0)
      #expect(report.stopped.count == 2)
      #expect(report.stopped.allSatisfy { $0.reason.contains(reason) })
      let touched = try await night.value(
        """
        SELECT (SELECT count(*) FROM (TABLE before.posts EXCEPT TABLE warehouse.posts) AS p)
             + (SELECT count(*) FROM (TABLE before.users EXCEPT TABLE warehouse.users) AS u)
        """, as: Int.self)
      #expect(touched == 0)
      // Asking again changes nothing, a word for each chunk does.
      let again = try await night.withRuntime(pipeline) { try await $0.run(resumeOnly: true) }
      #expect(again.first?.status == .stopped)
      for chunk in report.stopped {
        _ = try await night.withRuntime(pipeline) { try await $0.apply(approving: chunk.chunkID) }
      }
      #expect(try await night.rowsThatDiffer() == 0)
      #expect(try await night.ledgerFaults() == [])
    }
  }

  @Test func aForeignKeyThatNoTargetCoversIsNamedAndNothingIsKept() async throws {
    try await Night.with { night in
      try await night.invent(posts: 500)
      let pipeline = try night.pipeline { definition in
        definition.replacing(
          """
                - table: warehouse.post_media
                  match: post_id
                  actions: {deleted: delete, bounced: delete, suspended: delete, deactivated: delete}

          """, with: "")
      }
      await #expect {
        try await collected(night, pipeline) { _ = try await $0.apply() }
      } throws: { error in
        let error = try #require(error as? ApplyError, "\(error)")
        return error.message.contains("post_media_post_id_fkey")
          && error.remedy.contains("warehouse.post_media")
      }
      // The batch that met it left nothing; those before it are whole.
      #expect(
        try await night.value(
          "SELECT count(*) FROM lethe.event WHERE type = 'tweets' AND id > (SELECT max(applied_through) FROM lethe.chunk WHERE dataset = 'posts')",
          as: Int.self) == 0)
    }
  }

  @Test func aLockThatAWriterHoldsIsWaitedForAndNothingIsAppliedTwice() async throws {
    try await Night.with { night in
      try await night.invent(posts: 500)
      let pipeline = try night.pipeline()
      try await collected(night, pipeline) { runtime in
        try await night.database.withConnection { writer in
          try await writer.runScript(
            "BEGIN; UPDATE warehouse.posts SET text = text WHERE post_id = 17000")
          let applying = Task { try await runtime.apply() }
          try await night.database.withConnection { watcher in
            while try await watcher.query(
              """
              SELECT count(*) FROM pg_stat_activity
              WHERE wait_event_type = 'Lock' AND datname = current_database()
              """
            ).onlyRow(as: Int.self) == 0 { await Task.yield() }
          }
          try await writer.runScript("COMMIT")
          #expect(try await applying.value.waiting == 0)
        }
      }
      #expect(try await night.rowsThatDiffer() == 0)
      #expect(try await night.ledgerFaults() == [])
    }
  }

  @Test func rowsThatCameAfterTheExportAreNotTouched() async throws {
    try await Night.with { night in
      try await night.invent(posts: 500)
      let pipeline = try night.pipeline()
      try await collected(night, pipeline) { runtime in
        // A post of an ID that no chunk held, of an author without an event.
        try await night.execute(
          """
          INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
          VALUES (17001, 1000, 'new', now())
          """)
        try await night.keepCopy()
        _ = try await runtime.apply()
      }
      #expect(try await night.rowsThatDiffer() == 0)
    }
  }

  @Test func idsInTextAndNumericColumnsAreReached() async throws {
    try await Night.with { night in
      try await night.invent(posts: 500)
      try await night.execute(
        """
        ALTER TABLE warehouse.post_media DROP CONSTRAINT post_media_post_id_fkey;
        ALTER TABLE warehouse.posts ALTER post_id TYPE text;
        ALTER TABLE warehouse.post_media ALTER post_id TYPE numeric;
        ALTER TABLE warehouse.reposts ALTER repost_id TYPE varchar(30);
        """)
      let pipeline = try night.pipeline()
      _ = try await night.withRuntime(pipeline) { try await $0.run() }
      try await night.execute(
        """
        ALTER TABLE warehouse.posts ALTER post_id TYPE bigint USING post_id::bigint;
        ALTER TABLE warehouse.post_media ALTER post_id TYPE bigint;
        ALTER TABLE warehouse.reposts ALTER repost_id TYPE bigint USING repost_id::bigint;
        """)
      #expect(try await night.rowsThatDiffer() == 0)
      #expect(try await night.ledgerFaults() == [])
    }
  }
}
