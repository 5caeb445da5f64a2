import Definitions
import Evidence
import Ledger
import PostgreSQL
import Runtime
import Synchronization
import TestSupport
import Testing
import Vocabulary

/// The coverage: the time when each ID was last checked. The runs have different chunk sizes, and the dataset grows and
/// shrinks. Some lines cannot be applied, and some results are applied late. The tests compare the coverage with the
/// ranges of all applied chunks.
@Suite struct CoverageTests {
  /// The IDs of a job, and the IDs that its result does not cover.
  private struct Asked: Sendable {
    var ids: [Int64] = []
    var withheld: Set<Int64> = []
    var hasUnreadableLine = false

    /// The key ranges that the result covers.
    var ranges: [ClosedRange<Int64>] {
      if hasUnreadableLine { return [] }
      return ids.split { withheld.contains($0) }.compactMap { part in
        guard let first = part.first, let last = part.last else { return nil }
        // The range extends to the nearest IDs that the result does not cover, or to the end of the chunk.
        let before = ids.last { $0 < first }.map { $0 + 1 } ?? first
        let after = ids.first { $0 > last }.map { $0 - 1 } ?? last
        return before...after
      }
    }
  }

  /// Creates the results of the scripted API, and records the IDs of each job.
  private final class Results: Sendable {
    struct State: Sendable {
      var random: SeededGenerator
      /// The percentage of IDs whose lines have an unknown reason.
      var withheldPercent = 0
      var stopsChunks = false
      var asked: [Int: Asked] = [:]
    }

    let state: Mutex<State>

    init(seed: UInt64) {
      state = Mutex(State(random: SeededGenerator(seed: seed)))
    }

    func answer(_ download: ScriptedAPI.Download) -> String {
      state.withLock { state in
        var asked = Asked(ids: download.ids.sorted())
        for id in asked.ids
        where Int.random(in: 0..<100, using: &state.random) < state.withheldPercent {
          asked.withheld.insert(id)
        }
        asked.hasUnreadableLine =
          state.withheldPercent > 0 && Int.random(in: 0..<5, using: &state.random) == 0
        if asked.hasUnreadableLine && asked.withheld.isEmpty { asked.withheld.insert(asked.ids[0]) }
        state.asked[download.job] = asked
        var lines = asked.withheld.sorted().map { CollectTests.event($0, "delete", "withheld") }
        if asked.hasUnreadableLine { lines.append("rubbish\n") }
        if state.stopsChunks {
          lines += asked.ids.filter { !asked.withheld.contains($0) }
            .map { CollectTests.event($0, "delete", "protected") }
        }
        return lines.joined()
      }
    }
  }

  /// Every range that an applied chunk covers, with the time when its job was complete, in microseconds.
  private static func everyRange(
    _ fixture: PipelineFixture, _ results: Results
  ) async throws -> [(range: ClosedRange<Int64>, at: Int64)] {
    let jobs = try await fixture.database.withConnection {
      try await $0.query(
        """
        SELECT j.api_id::int - 999, (extract(epoch FROM c.completed_at) * 1000000)::bigint
        FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id) WHERE c.state = 'applied'
        """
      ).rows(as: Int.self, Int64.self)
    }
    let asked = results.state.withLock { $0.asked }
    return jobs.flatMap { number, at in
      (asked[number]?.ranges ?? []).map { (range: $0, at: at) }
    }
  }

  private static func expectCoverage(
    _ fixture: PipelineFixture, _ results: Results, through last: Int64, _ comment: Comment
  ) async throws {
    let ranges = try await everyRange(fixture, results)
    let owners = (1...last).map { id in
      ranges.indices.filter { ranges[$0].range.contains(id) }.max { ranges[$0].at < ranges[$1].at }
    }
    let found = try await fixture.database.withConnection {
      try await $0.query(
        """
        SELECT count(v.first_id), max((extract(epoch FROM v.checked_at) * 1000000)::bigint)
        FROM generate_series(1, \(last)) AS id
        LEFT JOIN lethe.coverage AS v ON id BETWEEN v.first_id AND v.last_id GROUP BY id ORDER BY id
        """
      ).rows(as: Int.self, Int64?.self)
    }
    #expect(found.map(\.1) == owners.map { $0.map { ranges[$0].at } }, comment)
    #expect(found.allSatisfy { $0.0 <= 1 }, comment)
    // There is exactly one row for each range of adjacent IDs that the same result covers.
    let expectedRows = owners.indices.count {
      owners[$0] != nil && ($0 == 0 || owners[$0] != owners[$0 - 1])
    }
    let rows = try await fixture.value("SELECT count(*) FROM lethe.coverage", as: Int.self)
    #expect(rows == expectedRows, comment)
    // The audit reports the same coverage.
    for id in stride(from: 1, through: last, by: 17) {
      let trail = try await fixture.database.withConnection {
        try await AuditLedger(connection: $0).trail(of: id, type: .tweets)
      }
      #expect(trail.lastChecks.count == (owners[Int(id) - 1] == nil ? 0 : 1), comment)
    }
  }

  private static func pipeline(_ fixture: PipelineFixture, _ url: String, chunkIDs: Int) throws
    -> Pipeline
  {
    try fixture.pipeline(api: url) {
      CollectTests.postsOnly($0).editing("chunk: {ids: 700}", to: "chunk: {ids: \(chunkIDs)}")
    }
  }

  private static func insert(_ ids: some Sequence<Int64>, _ fixture: PipelineFixture) async throws {
    try await fixture.execute(
      """
      INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
      SELECT p, 1, 'text', now()
      FROM unnest('{\(trusted: ids.map(String.init).joined(separator: ","))}'::bigint[]) AS p
      ON CONFLICT DO NOTHING
      """)
  }

  @Test(arguments: 0..<2)
  func eachIDHasTheTimeOfItsNewestCheck(part: Int) async throws {
    let seed = SeededGenerator.seedOfTest() &+ UInt64(part)
    var random = SeededGenerator(seed: seed)
    var plan: [(chunkIDs: Int, percent: Int, stops: Bool, gone: ClosedRange<Int64>)] = []
    for _ in 0..<9 {
      let first = Int64.random(in: 1...220, using: &random)
      plan.append(
        (
          Int.random(in: 5...60, using: &random), Bool.random(using: &random) ? 0 : 4,
          Int.random(in: 0..<4, using: &random) == 0, first...(first + 12)
        ))
    }
    let runs = plan
    try await PipelineFixture.with { fixture in
      let results = Results(seed: seed)
      let api = ScriptedAPI(
        .init(download: { .init(body: Array(results.answer($0).utf8)) }))
      try await api.serving { url in
        var stopped: [Int64] = []
        for (number, plan) in runs.enumerated() {
          // The dataset grows at both ends, and some rows are deleted.
          let grown = Int64(10 * number)
          try await Self.insert((100 - grown)...(120 + grown), fixture)
          try await fixture.execute(
            """
            DELETE FROM warehouse.posts
            WHERE post_id BETWEEN \(literal: plan.gone.lowerBound) AND \(literal: plan.gone.upperBound)
            """)
          results.state.withLock {
            ($0.withheldPercent, $0.stopsChunks) = (plan.percent, plan.stops)
          }
          let pipeline = try Self.pipeline(fixture, url, chunkIDs: plan.chunkIDs)
          let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
          stopped += (reports.last?.stopped ?? []).map(\.chunkID)
          // The chunks that a limit stopped in earlier runs are applied now.
          if number % 3 == 2 {
            for chunk in stopped {
              // If newer answers superseded all of its events, the chunk is already applied.
              do {
                _ = try await fixture.withRuntime(pipeline) { try await $0.apply(approving: chunk) }
              } catch let error as LedgerError where error.message.contains("is already applied") {}
            }
            stopped = []
          }
          try await Self.expectCoverage(
            fixture, results, through: 240, "LETHE_SEED=\(seed), run \(number)")
        }
      }
    }
  }

  /// The number of rows does not grow with the number of runs. Between two chunks of a run, a range
  /// without IDs keeps the row of an earlier run.
  @Test func theCoverageRowsAreLimitedByTheChunksOfOneRun() async throws {
    try await PipelineFixture.with { fixture in
      let results = Results(seed: 1)
      let api = ScriptedAPI(.init(download: { .init(body: Array(results.answer($0).utf8)) }))
      try await api.serving { url in
        for number in 0..<12 {
          let grown = Int64(3 * number)
          // Only every third number has a post, so there are gaps between chunks.
          try await Self.insert(stride(from: 100 - grown, through: 130 + grown, by: 3), fixture)
          let pipeline = try Self.pipeline(fixture, url, chunkIDs: [4, 9, 5, 30][number % 4])
          let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
          let chunks = try #require(reports.last?.datasets["posts"]?.chunks)
          let rows = try await fixture.value("SELECT count(*) FROM lethe.coverage", as: Int.self)
          #expect(rows <= 2 * chunks - 1, "run \(number)")
          try await Self.expectCoverage(fixture, results, through: 200, "run \(number)")
        }
      }
    }
  }
}
