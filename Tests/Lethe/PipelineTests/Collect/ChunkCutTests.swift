import ComplianceService
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Runs against a host that accepts only uploads that are smaller than the chunks.
@Suite(.endedIfItHangs) struct ChunkCutTests {
  private static func with(
    _ profile: WireProfile, uploadBytesMax: Int, posts: Int,
    _ body: @escaping @Sendable (PipelineFixture, PipelineRuntime) async throws -> Void
  ) async throws {
    try await PipelineFixture.with({
      $0.profile = profile
      $0.uploadBytesMax = uploadBytesMax
      $0.storageUploadBytesMax = uploadBytesMax
    }) { base in
      try await base.addSamples(posts: posts, editedPostsLoseLocations: profile == .native)
      let pipeline = try base.pipeline {
        $0.editing(
          "  poll_seconds: 0.02",
          to: "  allowed_hosts: [127.0.0.2]\n  profile: \(profile)\n  poll_seconds: 0.02")
      }
      try await base.withRuntime(pipeline) { try await body(base, $0) }
    }
  }

  private static func run(
    uploadBytesMax: Int, posts: Int,
    _ body: @escaping @Sendable (PipelineFixture, RunReport) async throws -> Void
  ) async throws {
    try await Self.with(.native, uploadBytesMax: uploadBytesMax, posts: posts) { base, runtime in
      try await body(base, try #require(try await runtime.run().last))
    }
  }

  /// Expects that the chunks together contain each of the 1,000 posts exactly once, and that their numbers have no gap.
  private static func expectEachIDOnce(_ base: PipelineFixture) async throws {
    func value(_ sql: SQL) async throws -> Int { try await base.value(sql, as: Int.self) }
    #expect(try await value("SELECT sum(ids) FROM lethe.chunk WHERE dataset = 'posts'") == 1000)
    #expect(
      try await value(
        """
        SELECT count(*) FROM lethe.chunk AS a JOIN lethe.chunk AS b USING (run_id, dataset)
        WHERE a.chunk_id < b.chunk_id AND a.first_id <= b.last_id AND b.first_id <= a.last_id
        """) == 0)
    let chunks = try await value("SELECT count(*) FROM lethe.chunk WHERE dataset = 'posts'")
    #expect(
      try await value("SELECT max(number) FROM lethe.chunk WHERE dataset = 'posts'") == chunks)
    #expect(
      try await value("SELECT chunks FROM lethe.export WHERE dataset = 'posts'") == chunks)
  }

  @Test func aChunkThatIsTooLargeIsSplitUntilItFits() async throws {
    try await Self.run(uploadBytesMax: 1000, posts: 1000) { base, report in
      #expect(report.status == .done, "\(report.failures)")
      #expect(try await base.rowsThatDiffer() == 0)
      #expect(try await base.ledgerFaults() == [])
      try await Self.expectEachIDOnce(base)
      let largest = try await base.value("SELECT max(bytes) FROM lethe.chunk", as: Int.self)
      #expect(largest <= 1000)
      // Each refused job has released its slot at the API.
      let active = try await base.value(
        "SELECT count(*) FROM compliance.jobs WHERE status IN ('created', 'in_progress')",
        as: Int.self)
      #expect(active == 0)
    }
  }

  /// The gcs profile cannot cancel a job. So the refused job keeps its slot until its upload URL expires, and the
  /// command splits only one chunk.
  @Test func aChunkThatIsTooLargeForTheStorageHostIsSplit() async throws {
    try await Self.with(.gcs, uploadBytesMax: 1000, posts: 1000) { base, runtime in
      _ = try await runtime.export()
      let before = try await base.value(
        "SELECT count(*) FROM lethe.chunk WHERE dataset = 'posts'", as: Int.self)
      _ = try await runtime.submit()
      try await Self.expectEachIDOnce(base)
      let after = try await base.value(
        "SELECT count(*) FROM lethe.chunk WHERE dataset = 'posts'", as: Int.self)
      #expect(after == before + 1)
    }
  }

  /// The number of jobs whose upload the host refused as too large.
  private static func refusedJobs(_ base: PipelineFixture, in run: Int = 1) async throws -> Int {
    try await base.value(
      """
      SELECT count(*) FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id)
      WHERE c.run_id = \(run) AND j.failure LIKE '%cut in two'
      """, as: Int.self)
  }

  /// The chunks have 5,600 bytes, and the host accepts 3,000. After the first refusal, Lethe splits the other chunks
  /// before it uploads them.
  @Test func oneRefusedUploadShowsTheLimitForTheWholeRun() async throws {
    try await Self.run(uploadBytesMax: 3000, posts: 3500) { base, report in
      #expect(report.status == .done, "\(report.failures)")
      #expect(try await base.rowsThatDiffer() == 0)
      #expect(try await base.ledgerFaults() == [])
      #expect(try await Self.refusedJobs(base) == 1)
      let largest = try await base.value("SELECT max(bytes) FROM lethe.chunk", as: Int.self)
      #expect(largest <= 3000 && largest > 2000)
    }
  }

  /// The second runtime of the test knows the limit from the ledger, like a new process.
  @Test func aRestartDoesNotRepeatAnUploadThatIsTooLarge() async throws {
    try await PipelineFixture.with({ $0.uploadBytesMax = 3000 }) { base in
      try await base.addSamples(posts: 3500)
      let pipeline = try base.pipeline()
      try await base.withRuntime(pipeline) { runtime in
        _ = try await runtime.export()
        _ = try await runtime.submit()
      }
      #expect(try await Self.refusedJobs(base) == 1)
      let report = try #require(
        try await base.withRuntime(pipeline) { try await $0.run(resumeOnly: true) }.last)
      #expect(report.status == .done, "\(report.failures)")
      #expect(try await Self.refusedJobs(base) == 1)
      #expect(try await base.rowsThatDiffer() == 0)
      // The host might accept more now, so a new run tries a large upload again.
      let next = try #require(try await base.withRuntime(pipeline) { try await $0.run() }.last)
      #expect(next.status == .done, "\(next.failures)")
      #expect(try await Self.refusedJobs(base, in: 2) == 1)
    }
  }

  /// The host has accepted other uploads of the same size, so this refusal has a different reason.
  @Test func aRefusalOfASizeThatTheHostAcceptedSetsNoLimit() async throws {
    try await RefusalFixture.with(configure: {
      $0.intercept = { call in
        call.kind == .upload && call.number == 4 ? .init(status: 413, json: "{}") : nil
      }
    }) { fixture in
      let file = try fixture.base.definitionFile {
        CollectTests.postsOnly(RefusalFixture.definition("batch: 20", ids: 10)($0))
      }
      let result = try await fixture.lethe("run", file)
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      let cut = try await fixture.base.value(
        "SELECT count(*) FROM lethe.chunk WHERE cuts > 0", as: Int.self)
      // The two parts of the refused chunk.
      #expect(cut == 2)
    }
  }

  @Test func aChunkIsSetAsideIfTheHostAcceptsNothing() async throws {
    try await Self.run(uploadBytesMax: 1, posts: 12) { base, report in
      #expect(!report.failures.isEmpty)
      let least = try await base.value(
        "SELECT min(ids) FROM lethe.chunk WHERE state = 'failed'", as: Int.self)
      #expect(least == 1)
      let ids = try await base.value(
        "SELECT sum(ids) FROM lethe.chunk WHERE dataset = 'posts' AND state = 'failed'",
        as: Int.self)
      #expect(ids == 12)
    }
  }

  /// A chunk that stays too large for the API uses a limited number of jobs.
  @Test func aChunkIsSplitALimitedNumberOfTimes() async throws {
    try await Self.run(uploadBytesMax: 1, posts: 200) { base, _ in
      let most = try await base.value("SELECT max(cuts) FROM lethe.chunk", as: Int.self)
      #expect(most == 7)
      let jobs = try await base.value(
        """
        SELECT count(*) FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id) WHERE c.dataset = 'posts'
        """,
        as: Int.self)
      // Seven splits lead to the smallest part. Each other part uses one more job.
      #expect(jobs <= 16)
    }
  }

  /// After the first chunk has shown that no size is small enough, each other chunk uses one job.
  @Test func aChunkIsNotSplitIfNoSizeIsSmallEnough() async throws {
    try await Self.run(uploadBytesMax: 1, posts: 2100) { base, _ in
      let jobs = try await base.value(
        "SELECT count(*) FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id) WHERE c.dataset = 'posts'",
        as: Int.self)
      #expect(jobs <= 18)
      let ids = try await base.value(
        "SELECT sum(ids) FROM lethe.chunk WHERE dataset = 'posts' AND state = 'failed'",
        as: Int.self)
      #expect(ids == 2100)
    }
  }
}
