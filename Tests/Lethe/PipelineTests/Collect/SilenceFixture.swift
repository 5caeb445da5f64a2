import Evidence
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Vocabulary

/// Three runs over the posts 1 to 20. In the first run, 18 to 20 are protected. In the second run, 1 to 7 are reported
/// as deleted and 18 to 20 again as protected, and a limit stops the run. In the third run, the API sends the test's
/// response. After the third run, the second run's chunk is approved.
struct SilenceFixture: Sendable {
  static let posts: Set<Int64> = Set(1...20)
  static let deletedBefore: Set<Int64> = Set(1...7)
  static let protectedBefore: Set<Int64> = [18, 19, 20]

  /// The outcome of the third run, as plain SQL reads it from the tables.
  struct Outcome: Sendable, Equatable {
    /// The events that the third run recorded.
    var events: Set<Int64> = []
    /// The second run's events that the third run superseded.
    var supersededIDs: Set<Int64> = []
    /// The IDs that were checked in the third run, according to the coverage.
    var checked: Set<Int64> = []
    /// The protected IDs that the third run released.
    var released: Set<Int64> = []
    /// The IDs that the audit reports as clean.
    var reportedClean: Set<Int64> = []
    /// The posts that remain after the second run's chunk is approved.
    var left: Set<Int64> = []
    var quarantined = 0
  }

  struct RunResult: Sendable {
    let outcome: Outcome
    let report: RunReport
    /// The number of downloads in the third run.
    let downloads: Int
    /// The number of jobs in the third run.
    let jobs: Int
    /// The column `silence` of the third run's job.
    let silence: String?
  }

  static func run(_ third: ScriptedAPI.ScriptedResponse) async throws -> RunResult {
    var script = ScriptedAPI.Script()
    script.download = { download in
      switch download.job {
      case 1: text(protectedBefore.map { CollectTests.event($0, "delete", "protected") })
      case 2:
        text(
          deletedBefore.map { CollectTests.event($0) }
            + protectedBefore.map { CollectTests.event($0, "delete", "protected") })
      default: third
      }
    }
    let api = ScriptedAPI(script)
    return try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, latitude, created_at)
        SELECT p, 1, 'text', 1, now() FROM generate_series(1, 20) AS p
        """)
      return try await api.serving { url in
        let pipeline = try fixture.pipeline(api: url) {
          CollectTests.postsOnly($0).editing("percent: 60", to: "percent: 30")
        }
        let first = try await fixture.withRuntime(pipeline) { try await $0.run() }
        #expect(first.map(\.status) == [.done])
        let second = try await fixture.withRuntime(pipeline) { try await $0.run() }
        #expect(second.map(\.status) == [.stopped])
        let chunk = try #require(second.last?.stopped.first?.chunkID)
        let before = api.downloads
        let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
        #expect(reports.count == 2)
        let result = try await fixture.result(
          try #require(reports.last), downloads: api.downloads - before,
          jobs: api.jobNames.count - 2)
        _ = try await fixture.withRuntime(pipeline) { try await $0.apply(approving: chunk) }
        return try await fixture.afterApproval(result)
      }
    }
  }

  private static func text(_ lines: [String]) -> ScriptedAPI.ScriptedResponse {
    ScriptedAPI.ScriptedResponse(body: Array(lines.joined().utf8))
  }
}

extension PipelineFixture {
  fileprivate func ids(_ sql: SQL) async throws -> Set<Int64> {
    try await database.withConnection { Set(try await $0.query(sql).rows(as: Int64.self)) }
  }

  fileprivate func result(
    _ report: RunReport, downloads: Int, jobs: Int
  ) async throws -> SilenceFixture.RunResult {
    var outcome = SilenceFixture.Outcome()
    outcome.events = try await ids(
      "SELECT id FROM lethe.event WHERE chunk_id > 2 AND reason <> 'clean' AND cause_id IS NULL")
    outcome.supersededIDs = try await ids(
      "SELECT id FROM lethe.collected WHERE chunk_id = 2 AND superseded_by IS NOT NULL")
    outcome.checked = try await ids(
      """
      SELECT id FROM generate_series(1, 20) AS id
      WHERE EXISTS (SELECT FROM lethe.coverage WHERE chunk_id > 2 AND id BETWEEN first_id AND last_id)
      """)
    outcome.released = SilenceFixture.protectedBefore.subtracting(
      try await ids("SELECT id FROM lethe.holder WHERE type = 'tweets'"))
    for id in SilenceFixture.posts {
      let trail = try await database.withConnection {
        try await AuditLedger(connection: $0).trail(of: id, type: .tweets)
      }
      let check = try #require(trail.checks.last)
      let isClean = trail.events.contains { $0.chunkID == check.chunkID && $0.reason == "clean" }
      if check.answer == .noEvent || isClean { outcome.reportedClean.insert(id) }
    }
    outcome.quarantined = try await value("SELECT count(*) FROM lethe.quarantine", as: Int.self)
    let silence = try await value(
      "SELECT max(silence::text) FROM lethe.job WHERE chunk_id > 2", as: String?.self)
    // The coverage counts the IDs of each range correctly, and each ID was checked by a run.
    let (counted, unchecked) = try await database.withConnection {
      try await $0.query(
        """
        SELECT coalesce(sum(ids) FILTER (WHERE chunk_id > 2), 0)::bigint,
               (SELECT count(*) FROM generate_series(1, 20) AS id
                WHERE NOT EXISTS (SELECT FROM lethe.coverage WHERE id BETWEEN first_id AND last_id))
        FROM lethe.coverage
        """
      ).onlyRow(as: Int.self, Int.self)
    }
    #expect(counted == outcome.checked.count)
    #expect(unchecked == 0)
    return SilenceFixture.RunResult(
      outcome: outcome, report: report, downloads: downloads, jobs: jobs, silence: silence)
  }

  fileprivate func afterApproval(_ result: SilenceFixture.RunResult) async throws
    -> SilenceFixture.RunResult
  {
    var outcome = result.outcome
    outcome.left = try await ids("SELECT post_id FROM warehouse.posts")
    return SilenceFixture.RunResult(
      outcome: outcome, report: result.report, downloads: result.downloads, jobs: result.jobs,
      silence: result.silence)
  }
}
