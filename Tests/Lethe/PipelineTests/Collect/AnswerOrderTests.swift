import Ledger
import PostgreSQL
import TestSupport
import Testing

/// Of several answers about an ID, the newest counts. The tests cover every order of collection and every outcome of
/// the runs. They compare the results with a model that is independent of the implementation.
@Suite struct AnswerOrderTests {
  /// The content of a random result.
  struct RandomResult {
    var events: [Int64: String] = [:]
    var withheld: Set<Int64> = []
    var hasUnreadableLine = false

    var body: String {
      let lines =
        events.map { id, reason in
          CollectTests.event(id, reason == "geo_scrubbed" ? "scrub_geo" : "delete", reason)
        } + withheld.map { CollectTests.event($0, "delete", "withheld") }
        + (hasUnreadableLine ? ["rubbish\n", CollectTests.event(999_999_999)] : [])
      return lines.joined()
    }

    /// Whether the body is a result. A result is empty or has a line about an ID of the chunk.
    var isResult: Bool { !hasUnreadableLine || !events.isEmpty || !withheld.isEmpty }

    func isSilent(about id: Int64) -> Bool {
      !hasUnreadableLine && events[id] == nil && !withheld.contains(id)
    }
  }

  private static let reasons = ["deleted", "protected", "geo_scrubbed", "suspended"]

  private static func randomResult(
    about ids: ClosedRange<Int64>, _ random: inout SeededGenerator
  ) -> RandomResult {
    var result = RandomResult()
    result.hasUnreadableLine = Int.random(in: 0..<4, using: &random) == 0
    for id in ids {
      switch Int.random(in: 0..<6, using: &random) {
      case 0...2: result.events[id] = reasons.randomElement(using: &random)
      case 3: result.withheld.insert(id)
      default: break
      }
    }
    if !result.isResult { result.hasUnreadableLine = false }
    return result
  }

  /// - Parameter pipelines: the names of the pipelines to choose from. All pipelines ask about the same rows.
  @Test(arguments: [["one"], ["one", "two"]], 0..<3)
  func theNewestAnswerCountsInEveryOrder(pipelines: [String], part: Int) async throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    try await AnswerOrderFixture.with { fixture in
      for number in 0..<18 {
        let first = Int64(number * 100 + 1)
        let ids = first...(first + 7)
        try await fixture.connection.runScript(
          """
          INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
          SELECT p, 1, 'text', now() FROM generate_series(\(literal: first), \(literal: first + 7)) AS p
          """)
        var names: [String] = []
        var jobs: [AnswerOrderFixture.Job] = []
        var results: [RandomResult] = []
        // Some jobs have the same creation time at the API.
        var askedAt = number * 10
        for _ in 0..<3 {
          names.append(pipelines.randomElement(using: &random) ?? "")
          askedAt += Int.random(in: 0...1, using: &random)
          jobs.append(try await fixture.ask(names[jobs.count], ids, askedAt: askedAt))
          results.append(Self.randomResult(about: ids, &random))
        }
        var steps = ""
        for index in orders[(number + part) % 6] {
          try await fixture.collect(jobs[index], results[index].body)
          steps += " \(index)"
          if Int.random(in: 0..<3, using: &random) == 0 {
            try await fixture.giveUp(jobs[index])
            steps += "-"
          }
        }
        for index in 0..<3 {
          let expected = Self.current(index, names, results)
          let current = try await fixture.current(jobs[index])
          #expect(current == expected, "seed \(seed), case \(number), steps\(steps), job \(index)")
          let left = try await fixture.eventsToRetry(jobs[index])
          #expect(
            left == expected.count,
            "seed \(seed), case \(number), steps\(steps), job \(index): \(expected.sorted())")
        }
      }
    }
  }

  /// An event counts until a newer result has an event about the same ID, or is silent about it. An event with the same
  /// reason in another pipeline's result does not supersede it.
  private static func current(_ index: Int, _ names: [String], _ results: [RandomResult]) -> Set<
    Int64
  > {
    Set(
      results[index].events.filter { id, reason in
        !results.indices.contains { newer in
          guard newer > index else { return false }
          guard let other = results[newer].events[id] else {
            return results[newer].isSilent(about: id)
          }
          return names[newer] == names[index] || other != reason
        }
      }.keys)
  }

  // MARK: Single cases

  private static func posts(_ fixture: AnswerOrderFixture) async throws {
    try await fixture.connection.runScript(
      """
      INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
      SELECT p, 1, 'text', now() FROM generate_series(1, 8) AS p
      """)
  }

  private static func rows(
    _ fixture: AnswerOrderFixture, _ job: AnswerOrderFixture.Job
  ) async throws -> Int {
    try await fixture.connection.query(
      "SELECT count(*) FROM lethe.collected WHERE chunk_id = \(job.chunk.id)"
    ).onlyRow(as: Int.self)
  }

  @Test func eventsOfAGivenUpRunAreKeptUntilAllAreSuperseded() async throws {
    try await AnswerOrderFixture.with { fixture in
      try await Self.posts(fixture)
      let old = try await fixture.ask("one", 1...8, askedAt: 1)
      try await fixture.collect(old, CollectTests.event(2) + CollectTests.event(3))
      try await fixture.giveUp(old)
      #expect(try await fixture.current(old) == [2, 3])
      // The second result decides nothing about post 2, because it contains an unknown reason for that post.
      let second = try await fixture.ask("one", 1...8, askedAt: 2)
      try await fixture.collect(second, CollectTests.event(2, "delete", "withheld"))
      #expect(try await fixture.current(old) == [2])
      #expect(try await Self.rows(fixture, old) == 2)
      let third = try await fixture.ask("one", 1...8, askedAt: 3)
      try await fixture.collect(third, "")
      #expect(try await Self.rows(fixture, old) == 0)
    }
  }

  /// Another pipeline's event with the same reason supersedes no event. This remains true after a third result has
  /// superseded the other pipeline's event.
  @Test func theSameReasonInANewerResultIsNotSilence() async throws {
    try await AnswerOrderFixture.with { fixture in
      try await Self.posts(fixture)
      let old = try await fixture.ask("one", 1...8, askedAt: 1)
      let given = try await fixture.ask("two", 1...8, askedAt: 2)
      let newest = try await fixture.ask("two", 1...8, askedAt: 3)
      try await fixture.collect(old, CollectTests.event(2))
      try await fixture.collect(given, CollectTests.event(2))
      try await fixture.giveUp(given)
      try await fixture.collect(newest, CollectTests.event(2))
      #expect(try await fixture.current(given) == [])
      #expect(try await fixture.current(old) == [2])
      #expect(try await fixture.eventsToRetry(old) == 1)
    }
  }

  /// The run of the newest result is given up. An older result must not delete the rows that the newest result reported
  /// as clean.
  @Test func anOlderAnswerStaysSupersededWhenTheNewerRunIsGivenUp() async throws {
    try await AnswerOrderFixture.with { fixture in
      try await Self.posts(fixture)
      let old = try await fixture.ask("one", 1...8, askedAt: 1)
      let new = try await fixture.ask("one", 1...8, askedAt: 2)
      try await fixture.collect(
        new,
        CollectTests.event(1, "delete", "protected") + CollectTests.event(4, "delete", "withheld"))
      try await fixture.giveUp(new)
      try await fixture.collect(old, (1...4).map { CollectTests.event($0) }.joined())
      // Post 1 is protected. Posts 2 and 3 are clean. For post 4, only the old result counts.
      #expect(try await fixture.current(old) == [4])
    }
  }

  /// A newer result has no effect on IDs that its chunk does not contain, even if they are in the chunk's key range.
  /// The two datasets do not have the same rows.
  @Test func aNewerResultAffectsOnlyTheIDsOfItsChunk() async throws {
    for isLate in [false, true] {
      try await AnswerOrderFixture.with { fixture in
        try await Self.posts(fixture)
        let old = try await fixture.ask("one", 1...8, askedAt: 1)
        try await fixture.connection.runScript("DELETE FROM warehouse.posts WHERE post_id = 5")
        let new = try await fixture.ask("two", 3...6, askedAt: 2)
        let answers = [
          (old, (2...7).map { CollectTests.event($0) }.joined()), (new, CollectTests.event(4)),
        ]
        for (job, body) in isLate ? answers.reversed() : answers {
          try await fixture.collect(job, body)
        }
        // If the old result is collected last, the ledger no longer records which IDs the newer chunk contained.
        #expect(try await fixture.current(old) == (isLate ? Set(2...7) : [2, 4, 5, 7]))
      }
    }
  }

  /// If an answer is late, the ledger no longer records whether a newer job contained an ID that its result does not
  /// name. If the ID has a row, the next run asks about the ID again. If it has no row, no later run asks about the ID,
  /// so only the late answer can change its rows in other tables.
  @Test(arguments: ["deleted", "protected", "geo_scrubbed"])
  func silenceAboutAnIDWithoutARowSupersedesNoLateAnswer(reason: String) async throws {
    try await AnswerOrderFixture.with { fixture in
      try await Self.posts(fixture)
      let old = try await fixture.ask("one", 1...8, askedAt: 1)
      try await fixture.connection.runScript("DELETE FROM warehouse.posts WHERE post_id = 5")
      let new = try await fixture.ask("one", 1...8, askedAt: 2)
      try await fixture.collect(new, "")
      let action = reason == "geo_scrubbed" ? "scrub_geo" : "delete"
      let body = (4...6).map { CollectTests.event($0, action, reason) }.joined()
      try await fixture.collect(old, body)
      #expect(try await fixture.current(old) == [5])
      try await fixture.giveUp(old)
      #expect(try await fixture.eventsToRetry(old) == 1)
      // The row exists again, so the next run asks about the ID again.
      try await fixture.connection.runScript(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at) VALUES (5, 1, 'text', now())
        """)
      #expect(try await fixture.eventsToRetry(old) == 0)
    }
  }

  /// Lethe does not query the ledger for each ID of a large result.
  @Test func anOrdinaryResultNeedsNoLookupForEachID() async throws {
    try await AnswerOrderFixture.with { fixture in
      try await fixture.connection.runScript(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT p, 1, 'text', now() FROM generate_series(1, 100000) AS p
        """)
      let job = try await fixture.ask("one", 1...100_000, askedAt: 1)
      let body = (1...50_000).map { CollectTests.event($0 * 2) }.joined()
      try await fixture.collect(job, body + CollectTests.event(1, "delete", "withheld"))
      try await fixture.connection.runScript("SELECT pg_stat_force_next_flush()")
      let scans = try await fixture.connection.query(
        """
        SELECT sum(coalesce(idx_scan, 0) + seq_scan)::bigint FROM pg_stat_user_tables
        WHERE schemaname = 'lethe' AND relname IN ('unspoken', 'job')
        """
      ).onlyRow(as: Int.self)
      #expect(scans < 200)
      #expect(try await fixture.current(job).count == 50_000)
    }
  }

  @Test func aFailedChunkResumesWithAPartlyAppliedEvent() async throws {
    try await AnswerOrderFixture.with { fixture in
      try await Self.posts(fixture)
      let waiting = try await fixture.ask("one", 1...8, askedAt: 1)
      let failed = try await fixture.ask("one", 1...8, askedAt: 2)
      for job in [waiting, failed] {
        try await fixture.collect(job, (2...5).map { CollectTests.event($0) }.joined())
      }
      try await fixture.connection.runScript(
        """
        UPDATE lethe.collected SET superseded_by = NULL;
        UPDATE lethe.collected SET changed = '{"delete warehouse.posts": 1}' WHERE id = 3;
        UPDATE lethe.chunk SET applied_through = 2
        """)
      try await fixture.giveUp(failed)
      let newest = try await fixture.ask("one", 1...8, askedAt: 3)
      try await fixture.collect(newest, CollectTests.event(5, "delete", "withheld"))
      // In the waiting chunk, the event about post 3 is applied in part and is not recorded yet.
      #expect(try await fixture.current(waiting) == [2, 3, 5])
      // In both chunks, the event about post 2 is applied.
      #expect(try await fixture.current(failed) == [2, 5])
      #expect(try await fixture.eventsToRetry(failed) == 1)
    }
  }
}
