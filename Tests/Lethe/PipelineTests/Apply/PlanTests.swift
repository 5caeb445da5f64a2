import PostgreSQL
import Runtime
import TestSupport
import Testing

@Suite struct PlanTests {
  @Test func aPlanShowsWhatApplyDoesAndChangesNothing() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      // Each batch is a whole chunk, so no row is in two batches.
      let pipeline = try fixture.pipeline {
        $0.editing("batch: 20", to: "atomic: chunk").editing(
          "batch: 3", to: "atomic: chunk")
      }
      try await fixture.withRuntime(pipeline) { runtime in
        let before = try await runtime.plan()
        #expect(before.datasets.map(\.dataset) == ["posts", "users"])
        #expect(before.datasets.map(\.ids) == [500, 45])
        #expect(before.datasets.map(\.chunks) == [1, 1])
        #expect(before.chunks == [])
        _ = try await runtime.export()
        let bytes = try await fixture.value(
          "SELECT sum(bytes)::bigint FROM lethe.chunk", as: Int.self)
        #expect(before.datasets.reduce(0) { $0 + $1.bytes } == bytes)
        while try await runtime.submit().chunks > 0 { _ = try await runtime.awaitJobs() }
        _ = try await runtime.collect()
        let state = try await fixture.value(Self.fingerprint, as: String.self)
        let plan = try await runtime.plan()
        #expect(try await fixture.value(Self.fingerprint, as: String.self) == state)
        // Both datasets change the same posts. So only the first chunk's plan must match what apply does.
        let first = try #require(plan.chunks.first)
        #expect(first.dataset == "posts")
        #expect(first.stopReason == nil)
        _ = try await runtime.apply()
        let done = try await fixture.database.withConnection {
          try await $0.query(
            """
            SELECT table_name || ' ' || action || ' ' || reason || ' ' || rows
            FROM lethe.change WHERE chunk_id = (SELECT min(chunk_id) FROM lethe.chunk)
            """
          ).rows(as: String.self)
        }
        #expect(
          Set(first.rows.map { "\($0.table) \($0.action) \($0.reason) \($0.rows)" }) == Set(done))
        #expect(!done.isEmpty)
      }
    }
  }

  /// A hash of the rows of the warehouse and of the ledger, with each row's `ctid` and `xmin`. It changes with every
  /// change of a row.
  private static let fingerprint: SQL = """
    SELECT md5(string_agg(row, ' ' ORDER BY row)) FROM (
      SELECT 'p' || ctid || xmin || p::text FROM warehouse.posts AS p
      UNION ALL SELECT 'u' || ctid || xmin || u::text FROM warehouse.users AS u
      UNION ALL SELECT 'm' || ctid || xmin || m::text FROM warehouse.post_media AS m
      UNION ALL SELECT 'r' || ctid || xmin || r::text FROM warehouse.reposts AS r
      UNION ALL SELECT 'c' || ctid || xmin || c::text FROM lethe.chunk AS c
      UNION ALL SELECT 'n' || ctid || xmin || n::text FROM lethe.run AS n
      UNION ALL SELECT 'e' || ctid || xmin || e::text FROM lethe.event AS e
      UNION ALL SELECT 't' || ctid || xmin || t::text FROM lethe.tombstone AS t
      UNION ALL SELECT 'l' || ctid || xmin || l::text FROM lethe.collected AS l
      UNION ALL SELECT 'b' || ctid || xmin || b::text FROM lethe.batch AS b) AS rows (row)
    """

  @Test func aPlanReportsAChunkThatALimitWouldStop() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let file = try fixture.definitionFile {
        $0.editing("max_redacted_percent: 60", to: "max_redacted_percent: 2")
      }
      let run = try await Program.run("lethe", ["run", file], environment: fixture.environment)
      #expect(run.code == 3)
      let plan = try await Program.run("lethe", ["plan", file], environment: fixture.environment)
      #expect(plan.code == 0, "\(plan.stderr)")
      #expect(plan.stdout.contains("warehouse.posts"), "\(plan.stderr)")
      #expect(plan.stdout.contains("max_redacted_percent is 2"))
      #expect(plan.stdout.contains("--approve"))
      let json = try await Program.run(
        "lethe", ["plan", file, "--output", "json"], environment: fixture.environment)
      #expect((json.json["chunks"] as? [[String: Any]])?.count == 2)
      #expect((json.json["datasets"] as? [[String: Any]])?.count == 2)
    }
  }
}
