import Ledger
import PostgreSQL
import TestSupport
import Testing

/// Which of several responses for an ID counts, for every order of collection and every outcome of their
/// runs. The results are compared with a model that is independent of the implementation.
@Suite struct ResponseOrderTests {
  /// The content of a result that a test makes up.
  struct ClientOutput {
    var events: [Int64: String] = [:]
    var withheld: Set<Int64> = []
    var hasRubbish = false

    var body: String {
      let lines =
        events.map { id, reason in
          CollectTests.event(id, reason == "geo_scrubbed" ? "scrub_geo" : "delete", reason)
        } + withheld.map { CollectTests.event($0, "delete", "withheld") }
        + (hasRubbish ? ["rubbish\n", CollectTests.event(999_999_999)] : [])
      return lines.joined()
    }

    /// Whether a line is about the chunk. Without such a line the body is no result.
    var isResult: Bool { !hasRubbish || !events.isEmpty || !withheld.isEmpty }

    func isSilent(about id: Int64) -> Bool {
      !hasRubbish && events[id] == nil && !withheld.contains(id)
    }
  }

  private static let reasons = ["deleted", "protected", "geo_scrubbed", "suspended"]

  private static func invent(
    _ ids: ClosedRange<Int64>, _ random: inout SeededGenerator
  ) -> ClientOutput {
    var said = ClientOutput()
    said.hasRubbish = Int.random(in: 0..<4, using: &random) == 0
    for id in ids {
      switch Int.random(in: 0..<6, using: &random) {
      case 0...2: said.events[id] = reasons.randomElement(using: &random)
      case 3: said.withheld.insert(id)
      default: break
      }
    }
    if !said.isResult { said.hasRubbish = false }
    return said
  }

  /// - Parameter pipelines: the names to choose from. All of them have the same rows.
  @Test(arguments: [["one"], ["one", "two"]], 0..<3)
  func theNewestResponseCountsInEveryOrder(pipelines: [String], part: Int) async throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    try await AnswerDesk.with { desk in
      for number in 0..<18 {
        let first = Int64(number * 100 + 1)
        let ids = first...(first + 7)
        try await desk.connection.runScript(
          """
          INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
          SELECT p, 1, 'text', now() FROM generate_series(\(literal: first), \(literal: first + 7)) AS p
          """)
        var names: [String] = []
        var jobs: [AnswerDesk.Job] = []
        var said: [ClientOutput] = []
        // Two of the jobs may have the same time on the API's clock.
        var askedAt = number * 10
        for _ in 0..<3 {
          names.append(pipelines.randomElement(using: &random) ?? "")
          askedAt += Int.random(in: 0...1, using: &random)
          jobs.append(try await desk.ask(names[jobs.count], ids, askedAt: askedAt))
          said.append(Self.invent(ids, &random))
        }
        var steps = ""
        for place in orders[(number + part) % 6] {
          try await desk.collect(jobs[place], said[place].body)
          steps += " \(place)"
          if Int.random(in: 0..<3, using: &random) == 0 {
            try await desk.giveUp(jobs[place])
            steps += "-"
          }
        }
        for place in 0..<3 {
          let expected = Self.current(place, names, said)
          let stands = try await desk.current(jobs[place])
          #expect(stands == expected, "seed \(seed), case \(number), steps\(steps), job \(place)")
          let left = try await desk.eventsToRetry(jobs[place])
          #expect(
            left == expected.count,
            "seed \(seed), case \(number), steps\(steps), job \(place): \(expected.sorted())")
        }
      }
    }
  }

  /// An event is valid until a newer result has a different reason for its ID, or no line for it. The same
  /// reason for another pipeline's tables does not supersede the event.
  private static func current(_ place: Int, _ names: [String], _ said: [ClientOutput]) -> Set<
    Int64
  > {
    Set(
      said[place].events.filter { id, reason in
        !said.indices.contains { newer in
          guard newer > place else { return false }
          guard let other = said[newer].events[id] else { return said[newer].isSilent(about: id) }
          return names[newer] == names[place] || other != reason
        }
      }.keys)
  }

  // MARK: Single cases

  private static func posts(_ desk: AnswerDesk) async throws {
    try await desk.connection.runScript(
      """
      INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
      SELECT p, 1, 'text', now() FROM generate_series(1, 8) AS p
      """)
  }

  private static func rows(_ desk: AnswerDesk, _ job: AnswerDesk.Job) async throws -> Int {
    try await desk.connection.query(
      "SELECT count(*) FROM lethe.collected WHERE chunk_id = \(job.chunk.id)"
    ).onlyRow(as: Int.self)
  }

  @Test func eventsOfAGivenUpRunAreKeptUntilAllAreSuperseded() async throws {
    try await AnswerDesk.with { desk in
      try await Self.posts(desk)
      let old = try await desk.ask("one", 1...8, askedAt: 1)
      try await desk.collect(old, CollectTests.event(2) + CollectTests.event(3))
      try await desk.giveUp(old)
      #expect(try await desk.current(old) == [2, 3])
      // The second result cannot decide about 2, because its reason is unknown.
      let second = try await desk.ask("one", 1...8, askedAt: 2)
      try await desk.collect(second, CollectTests.event(2, "delete", "withheld"))
      #expect(try await desk.current(old) == [2])
      #expect(try await Self.rows(desk, old) == 2)
      let third = try await desk.ask("one", 1...8, askedAt: 3)
      try await desk.collect(third, "")
      #expect(try await Self.rows(desk, old) == 0)
    }
  }

  /// The same reason from another pipeline does not supersede an event, even after a third result superseded it.
  @Test func theSameReasonInANewerResultIsNotSilence() async throws {
    try await AnswerDesk.with { desk in
      try await Self.posts(desk)
      let old = try await desk.ask("one", 1...8, askedAt: 1)
      let given = try await desk.ask("two", 1...8, askedAt: 2)
      let newest = try await desk.ask("two", 1...8, askedAt: 3)
      try await desk.collect(old, CollectTests.event(2))
      try await desk.collect(given, CollectTests.event(2))
      try await desk.giveUp(given)
      try await desk.collect(newest, CollectTests.event(2))
      #expect(try await desk.current(given) == [])
      #expect(try await desk.current(old) == [2])
      #expect(try await desk.eventsToRetry(old) == 1)
    }
  }

  /// The run of the newest result was given up. An older result must not delete the rows that were clean in it.
  @Test func anOlderResponseStaysSupersededWhenTheNewerRunIsGivenUp() async throws {
    try await AnswerDesk.with { desk in
      try await Self.posts(desk)
      let old = try await desk.ask("one", 1...8, askedAt: 1)
      let new = try await desk.ask("one", 1...8, askedAt: 2)
      try await desk.collect(
        new,
        CollectTests.event(1, "delete", "protected") + CollectTests.event(4, "delete", "withheld"))
      try await desk.giveUp(new)
      try await desk.collect(old, (1...4).map { CollectTests.event($0) }.joined())
      // 1 is protected, 2 and 3 are clean. For 4 there is only the old result.
      #expect(try await desk.current(old) == [4])
    }
  }

  /// A newer result has no effect on IDs in its key range that its chunk had not asked about. The rows of the
  /// two datasets can differ.
  @Test func aNewerResultAffectsOnlyTheIDsOfItsChunk() async throws {
    for isLate in [false, true] {
      try await AnswerDesk.with { desk in
        try await Self.posts(desk)
        let old = try await desk.ask("one", 1...8, askedAt: 1)
        try await desk.connection.runScript("DELETE FROM warehouse.posts WHERE post_id = 5")
        let new = try await desk.ask("two", 3...6, askedAt: 2)
        let answers = [
          (old, (2...7).map { CollectTests.event($0) }.joined()), (new, CollectTests.event(4)),
        ]
        for (job, body) in isLate ? answers.reversed() : answers {
          try await desk.collect(job, body)
        }
        // If the old result is late, Lethe no longer knows which rows the newer chunk had.
        #expect(try await desk.current(old) == (isLate ? Set(2...7) : [2, 4, 5, 7]))
      }
    }
  }

  /// If a response is late, Lethe no longer knows whether a newer job of the same rows had asked about an ID without
  /// a line. If the ID has a row, it is asked about again. If not, its data in other tables would never change.
  @Test(arguments: ["deleted", "protected", "geo_scrubbed"])
  func silenceAboutAnIDWithoutARowSupersedesNoLateResponse(reason: String) async throws {
    try await AnswerDesk.with { desk in
      try await Self.posts(desk)
      let old = try await desk.ask("one", 1...8, askedAt: 1)
      try await desk.connection.runScript("DELETE FROM warehouse.posts WHERE post_id = 5")
      let new = try await desk.ask("one", 1...8, askedAt: 2)
      try await desk.collect(new, "")
      let action = reason == "geo_scrubbed" ? "scrub_geo" : "delete"
      let body = (4...6).map { CollectTests.event($0, action, reason) }.joined()
      try await desk.collect(old, body)
      #expect(try await desk.current(old) == [5])
      try await desk.giveUp(old)
      #expect(try await desk.eventsToRetry(old) == 1)
      // The row exists again, so the ID is asked about again.
      try await desk.connection.runScript(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at) VALUES (5, 1, 'text', now())
        """)
      #expect(try await desk.eventsToRetry(old) == 0)
    }
  }

  /// For an ordinary large result, Lethe does not look up the meaning of silence for each ID.
  @Test func anOrdinaryResultNeedsNoLookupForEachID() async throws {
    try await AnswerDesk.with { desk in
      try await desk.connection.runScript(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT p, 1, 'text', now() FROM generate_series(1, 100000) AS p
        """)
      let job = try await desk.ask("one", 1...100_000, askedAt: 1)
      let body = (1...50_000).map { CollectTests.event($0 * 2) }.joined()
      try await desk.collect(job, body + CollectTests.event(1, "delete", "withheld"))
      try await desk.connection.runScript("SELECT pg_stat_force_next_flush()")
      let looks = try await desk.connection.query(
        """
        SELECT sum(coalesce(idx_scan, 0) + seq_scan)::bigint FROM pg_stat_user_tables
        WHERE schemaname = 'lethe' AND relname IN ('unspoken', 'job')
        """
      ).onlyRow(as: Int.self)
      #expect(looks < 200)
      #expect(try await desk.current(job).count == 50_000)
    }
  }

  @Test func aFailedChunkResumesWithAPartlyAppliedEvent() async throws {
    try await AnswerDesk.with { desk in
      try await Self.posts(desk)
      let waiting = try await desk.ask("one", 1...8, askedAt: 1)
      let failed = try await desk.ask("one", 1...8, askedAt: 2)
      for job in [waiting, failed] {
        try await desk.collect(job, (2...5).map { CollectTests.event($0) }.joined())
      }
      try await desk.connection.runScript(
        """
        UPDATE lethe.collected SET superseded_by = NULL;
        UPDATE lethe.collected SET changed = '{"delete warehouse.posts": 1}' WHERE id = 3;
        UPDATE lethe.chunk SET applied_through = 2
        """)
      try await desk.giveUp(failed)
      let newest = try await desk.ask("one", 1...8, askedAt: 3)
      try await desk.collect(newest, CollectTests.event(5, "delete", "withheld"))
      // In the waiting chunk a part of 3 is applied, and its record is still missing.
      #expect(try await desk.current(waiting) == [2, 3, 5])
      // In both chunks 2 is applied.
      #expect(try await desk.current(failed) == [2, 5])
      #expect(try await desk.eventsToRetry(failed) == 1)
    }
  }
}
