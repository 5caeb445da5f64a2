import ApplyStage
import Definitions
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing

@Suite struct ApplyTests {
  /// Runs the stages up to collect. Then `body` runs apply.
  private func withCollectedEvents(
    _ fixture: PipelineFixture, _ pipeline: Pipeline,
    _ body: @escaping @Sendable (PipelineRuntime) async throws -> Void
  ) async throws {
    try await fixture.withRuntime(pipeline) { runtime in
      _ = try await runtime.export()
      while try await runtime.submit().chunks > 0 { _ = try await runtime.awaitJobs() }
      _ = try await runtime.collect()
      try await body(runtime)
    }
  }

  @Test(arguments: [
    ("max_redacted_percent: 60", "max_redacted_percent: 2", "max_redacted_percent is 2"),
    ("max_redacted_rows: 100000", "max_redacted_rows: 10", "max_redacted_rows is 10"),
    (
      "max_redacted_rows: 100000",
      "max_redacted_rows: 100000, reasons: {suspended: {max_redacted_percent: 1.5}}",
      "reasons.suspended.max_redacted_percent is 1.5"
    ),
    (
      "max_redacted_rows: 100000",
      "max_redacted_rows: 100000, reasons: {deactivated: {max_redacted_rows: 3}}",
      "rows for deactivated; reasons.deactivated.max_redacted_rows is 3"
    ),
  ])
  func aChunkOverTheLimitsStopsBeforeAnyChangeAndContinuesWhenApproved(
    limit: String, tighter: String, reason: String
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let pipeline = try fixture.pipeline { $0.editing(limit, to: tighter) }
      let stopped = try await fixture.withRuntime(pipeline) { try await $0.run() }
      let report = try #require(stopped.first)
      #expect(report.status == .stopped)
      #expect(report.rowsChanged == 0)
      #expect(report.stopped.count == 2)
      #expect(report.stopped.allSatisfy { $0.reason.contains(reason) })
      let touched = try await fixture.value(
        """
        SELECT (SELECT count(*) FROM (TABLE before.posts EXCEPT TABLE warehouse.posts) AS p)
             + (SELECT count(*) FROM (TABLE before.users EXCEPT TABLE warehouse.users) AS u)
        """, as: Int.self)
      #expect(touched == 0)
      // A retry without an approval changes nothing. An approval of each chunk lets the run continue.
      let again = try await fixture.withRuntime(pipeline) { try await $0.run(resumeOnly: true) }
      #expect(again.first?.status == .stopped)
      for chunk in report.stopped {
        _ = try await fixture.withRuntime(pipeline) { try await $0.apply(approving: chunk.chunkID) }
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aChunkInWhichEveryIDIsDeletedStopsUnlessTheLimitAllowsIt() async throws {
    var script = ScriptedAPI.Script()
    script.result = { ids in ids.map { CollectTests.event($0) }.joined() }
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT p, 1, 'text', now() FROM generate_series(1, 10) AS p
        """)
      try await ScriptedAPI(script).serving { url in
        let generous = "max_redacted_percent: 100, max_redacted_rows: 100000"
        func pipeline(_ limits: String) throws -> Pipeline {
          try fixture.pipeline(api: url) {
            CollectTests.postsOnly($0)
              .editing("max_redacted_percent: 60, max_redacted_rows: 100000", to: limits)
          }
        }
        let stopped = try await fixture.withRuntime(pipeline(generous)) { try await $0.run() }
        #expect(stopped.last?.status == .stopped)
        let why = stopped.last?.stopped.first?.reason
        #expect(why?.contains("it would delete every one of its 10 IDs") == true)
        #expect(try await fixture.value("SELECT count(*) FROM warehouse.posts", as: Int.self) == 10)
        let permitting = try pipeline("\(generous), allow_whole_chunks: true")
        let reports = try await fixture.withRuntime(permitting) { runtime in
          _ = try await runtime.giveUp()
          return try await runtime.run()
        }
        #expect(reports.last?.status == .done)
        #expect(try await fixture.value("SELECT count(*) FROM warehouse.posts", as: Int.self) == 0)
      }
    }
  }

  @Test func theReasonToStopNamesTheActionOfEveryID() async throws {
    var script = ScriptedAPI.Script()
    script.result = { ids in ids.map { CollectTests.event($0) }.joined() }
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, place_id, created_at)
        SELECT p, 1, 'text', 'london', now() FROM generate_series(1, 10) AS p
        """)
      try await ScriptedAPI(script).serving { url in
        let pipeline = try fixture.pipeline(api: url) {
          CollectTests.postsOnly($0).editing(
            "max_redacted_percent: 60", to: "max_redacted_percent: 100"
          )
          .editing("\n      deleted: delete", to: "\n      deleted: {redact: [place_id]}")
        }
        let stopped = try await fixture.withRuntime(pipeline) { try await $0.run() }
        let why = stopped.last?.stopped.first?.reason
        #expect(why?.contains("it would redact every one of its 10 IDs") == true, "\(why ?? "")")
      }
    }
  }

  @Test func aRowReferencedByAnUndeclaredTableIsReportedAndSetAside() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let pipeline = try fixture.pipeline { definition in
        definition.editing(
          """
                - table: warehouse.post_media
                  match: post_id
                  actions: {deleted: delete, bounced: delete, suspended: delete, deactivated: delete}

          """, to: "")
      }
      let referenced = try await fixture.value(
        """
        SELECT string_agg(DISTINCT post_id::text, ' ' ORDER BY post_id::text)
        FROM warehouse.post_media JOIN platform.posts AS p USING (post_id)
        JOIN platform.accounts AS a ON a.account_id = p.author_id
        WHERE p.deleted_at IS NOT NULL OR a.state IN ('deleted', 'suspended', 'deactivated')
        """, as: String.self)
      try await withCollectedEvents(fixture, pipeline) { runtime in
        let run = try #require(try await runtime.apply().runs.last)
        #expect(run.status == .failed)
        let posts = run.refused.filter { $0.dataset == "posts" }
        #expect(posts.map(\.id).sorted().joined(separator: " ") == referenced)
        #expect(
          posts.allSatisfy {
            $0.why.contains("post_media_post_id_fkey") && $0.remedy.contains("warehouse.post_media")
          })
      }
    }
  }

  @Test func applyWaitsForAWritersLockAndAppliesNothingTwice() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let pipeline = try fixture.pipeline()
      try await withCollectedEvents(fixture, pipeline) { runtime in
        try await fixture.database.withConnection { writer in
          try await writer.runScript(
            "BEGIN; UPDATE warehouse.posts SET text = text WHERE post_id = 17000")
          let applying = Task { try await runtime.apply() }
          try await fixture.database.withConnection { watcher in
            while try await watcher.query(
              """
              SELECT count(*) FROM pg_stat_activity
              WHERE wait_event_type = 'Lock' AND datname = current_database()
              """
            ).onlyRow(as: Int.self) == 0 { try await pollingPause() }
          }
          try await writer.runScript("COMMIT")
          #expect(try await applying.value.waiting == 0)
        }
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aBatchIsRetriedAfterADeadlock() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let pipeline = try fixture.pipeline { $0.editing("batch: 20", to: "batch: 100") }
      try await withCollectedEvents(fixture, pipeline) { runtime in
        try await fixture.database.withConnection { writer in
          // Apply locks media before posts. This writer locks a post first, and then a media row of the same batch.
          try await writer.runScript(
            """
            BEGIN; SET LOCAL deadlock_timeout = '1min';
            UPDATE warehouse.posts SET text = text WHERE post_id = 17000
            """)
          let applying = Task { try await runtime.apply() }
          try await fixture.database.withConnection { watcher in
            while try await watcher.query(
              """
              SELECT count(*) FROM pg_stat_activity
              WHERE wait_event_type = 'Lock' AND datname = current_database()
              """
            ).onlyRow(as: Int.self) == 0 { try await pollingPause() }
          }
          try await writer.runScript(
            "UPDATE warehouse.post_media SET url = url WHERE post_id = 51000; COMMIT")
          #expect(try await applying.value.waiting == 0)
        }
      }
      let deadlocks = try await fixture.value(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()", as: Int.self)
      #expect(deadlocks > 0)
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  /// The cases in which apply truncates the table of collected events, and the cases in which it deletes the events
  /// instead.
  enum TableUse: CaseIterable {
    case onlyTheChunk, aReader, anotherChunk
    /// Apply uses a role that has no TRUNCATE privilege on the table.
    case aRoleWithoutTruncate

    var allowsTruncate: Bool { [.onlyTheChunk, .anotherChunk].contains(self) }
  }

  @Test(arguments: TableUse.allCases)
  func theTableOfCollectedEventsIsTruncatedIfPossible(tableUse: TableUse) async throws {
    let posts = tableUse == .anotherChunk ? 40_000 : 20_000
    var script = ScriptedAPI.Script()
    script.result = { ids in ids.map { CollectTests.event($0) }.joined() }
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT p, 1, 'text', now() FROM generate_series(1, \(literal: posts)) AS p
        """)
      // A role belongs to the whole server and not to one database, so each test creates a role with its own name.
      let role = fixture.database.name + "_role"
      if tableUse == .aRoleWithoutTruncate {
        try await fixture.execute(
          """
          CREATE ROLE \(trusted: role);
          GRANT USAGE ON SCHEMA lethe, warehouse TO \(trusted: role);
          GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA lethe, warehouse TO \(trusted: role);
          GRANT USAGE ON ALL SEQUENCES IN SCHEMA lethe TO \(trusted: role)
          """)
      }
      do {
        try await ScriptedAPI(script).serving { url in
          let pipeline = try fixture.pipeline(api: url) {
            CollectTests.postsOnly($0)
              .editing(
                "max_redacted_percent: 60",
                to: "max_redacted_percent: 100, allow_whole_chunks: true"
              )
              .editing("{ids: 700}", to: "{ids: 20000}")
              .editing("batch: 20", to: "batch: 3000")
              .editing(
                "${DATABASE_URL}",
                to: "${DATABASE_URL}"
                  + (tableUse == .aRoleWithoutTruncate ? "?options=-c%20role%3D\(role)" : ""))
          }
          try await withCollectedEvents(fixture, pipeline) { runtime in
            let file: SQL = "SELECT pg_relation_filenode('lethe.collected')::bigint"
            let before = try await fixture.value(file, as: Int.self)
            try await fixture.database.withConnection { reader in
              try await reader.runScript("BEGIN")
              if tableUse == .aReader {
                try await reader.execute("SELECT FROM lethe.collected LIMIT 1")
              }
              #expect(try await runtime.apply().chunks == posts / 20_000)
              try await reader.runScript("COMMIT")
            }
            let isTruncated = try await fixture.value(file, as: Int.self) != before
            #expect(isTruncated == tableUse.allowsTruncate)
          }
        }
      } catch {
        if tableUse == .aRoleWithoutTruncate {
          try? await fixture.execute("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
        }
        throw error
      }
      if tableUse == .aRoleWithoutTruncate {
        try await fixture.execute("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
      }
      let left: SQL = """
        SELECT (SELECT count(*) FROM lethe.collected) + (SELECT count(*) FROM warehouse.posts)
        """
      #expect(try await fixture.value(left, as: Int.self) == 0)
      #expect(try await fixture.value("SELECT count(*) FROM lethe.event", as: Int.self) == posts)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  /// A chunk is still marked as collected, but `lethe.collected` is empty. A database dump can contain this state if it
  /// waited for a lock while apply truncated the table.
  @Test func aChunkWithMissingEventsIsNotMarkedAsApplied() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let pipeline = try fixture.pipeline()
      try await withCollectedEvents(fixture, pipeline) { runtime in
        try await fixture.execute("TRUNCATE lethe.collected")
        let run = try #require(try await runtime.apply().runs.last)
        #expect(run.status == .failed)
        #expect(run.setAside.count == 2)
        #expect(
          run.setAside.allSatisfy {
            $0.reason.contains("missing in the ledger") && $0.command.hasPrefix("lethe run ")
              && $0.remedy.contains("again")
          })
      }
      #expect(
        try await fixture.value(
          "SELECT count(*) FROM lethe.chunk WHERE state = 'applied' AND events > 0", as: Int.self)
          == 0)
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(reports.map(\.status) == [.done])
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func rowsWithoutAnEventAreNotLocked() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let pipeline = try fixture.pipeline()
      try await withCollectedEvents(fixture, pipeline) { runtime in
        try await fixture.database.withConnection { writer in
          // Locks every post that apply does not change, in a transaction that ends after the apply.
          try await writer.runScript(
            """
            BEGIN;
            SELECT FROM warehouse.posts AS p LEFT JOIN platform.posts AS q USING (post_id)
              JOIN platform.accounts AS a ON a.account_id = p.author_id
            WHERE a.state = 'active' AND q.deleted_at IS NULL AND q.edited_at IS NULL
              AND q.geo_removed_at IS NULL FOR UPDATE OF p;
            """)
          #expect(try await runtime.apply().waiting == 0)
          try await writer.runScript("COMMIT")
        }
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func rowsThatWereInsertedAfterTheExportAreNotChanged() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let pipeline = try fixture.pipeline()
      try await withCollectedEvents(fixture, pipeline) { runtime in
        // The post's ID is in no chunk, and its author has no event.
        try await fixture.execute(
          """
          INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
          VALUES (17001, 1000, 'new', now())
          """)
        try await fixture.keepCopy()
        _ = try await runtime.apply()
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func idsInTextAndNumericColumnsAreMatched() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      try await fixture.execute(
        """
        ALTER TABLE warehouse.post_media DROP CONSTRAINT post_media_post_id_fkey;
        ALTER TABLE warehouse.posts ALTER post_id TYPE text;
        ALTER TABLE warehouse.post_media ALTER post_id TYPE numeric;
        ALTER TABLE warehouse.reposts ALTER repost_id TYPE varchar(30);
        """)
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      try await fixture.execute(
        """
        ALTER TABLE warehouse.posts ALTER post_id TYPE bigint USING post_id::bigint;
        ALTER TABLE warehouse.post_media ALTER post_id TYPE bigint;
        ALTER TABLE warehouse.reposts ALTER repost_id TYPE bigint USING repost_id::bigint;
        """)
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }
}
