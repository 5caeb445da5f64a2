import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// The collect stage reads the results of jobs.
@Suite struct CollectTests {
  /// Returns a line of a result.
  static func event(_ id: Int64, _ action: String = "delete", _ reason: String = "deleted")
    -> String
  {
    #"{"id":"\#(id)","action":"\#(action)","reason":"\#(reason)","created_at":"2021-08-11T19:42:55.000Z","redacted_at":null}"#
      + "\n"
  }

  /// Creates the posts 1 to 10, and runs a pipeline with only these posts. Passes the run's report to `body`.
  static func collecting(
    _ script: ScriptedAPI.Script,
    _ body: @escaping @Sendable (PipelineFixture, RunReport) async throws -> Void
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, latitude, created_at)
        SELECT p, 1, 'text', 1, now() FROM generate_series(1, 10) AS p
        """)
      try await ScriptedAPI(script).serving { url in
        let pipeline = try fixture.pipeline(api: url) { postsOnly($0) }
        let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
        try await body(fixture, try #require(reports.last))
      }
    }
  }

  /// Returns the definition without the dataset `users`.
  static func postsOnly(_ definition: String) -> String {
    definition.components(separatedBy: "  users:")[0]
  }

  @Test(arguments: [
    (#"{"id":"3","action":"withhold","reason":"deleted"}"#, "unknown action \"withhold\""),
    (#"{"id":"3","action":"delete","reason":"withheld"}"#, "unknown reason \"withheld\""),
    (#"{"id":"not_a_valid_id","error":"invalid_id"}"#, "the API says invalid_id"),
    (#"{"id":"3","action":"delete","#, "malformed JSON"),
    (#"{"id":"9223372036854775808","action":"delete","reason":"deleted"}"#, "not an integer"),
    (#"{"id":"77","action":"delete","reason":"deleted"}"#, "not in the chunk"),
    (#"["3"]"#, "not a JSON object"),
    (#"{"id":"3","action":"delete","reason":"a\u0000é"}"#, "unknown reason \"a??\""),
    ("{\"id\":\"" + String(repeating: "3", count: 70_000) + "\"}", "over 65536 bytes"),
  ])
  func aLineThatCannotBeAppliedIsKeptAndTheRestIsApplied(line: String, why: String) async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in "\n" + Self.event(5) + line + "\n\n" + Self.event(6) }
    try await Self.collecting(script) { fixture, report in
      #expect(report.status == .done)
      #expect(report.quarantined == 1)
      #expect(report.datasets["posts"]?.events == 2)
      let kept = try await fixture.database.withConnection {
        try await $0.query("SELECT line, raw, why FROM lethe.quarantine")
          .onlyRow(as: Int.self, [UInt8].self, String.self)
      }
      #expect(kept.0 == 3)
      #expect(kept.1 == Array(line.utf8.prefix(65536)))
      #expect(kept.2.contains(why), "\(kept.2)")
      let left = try await fixture.value(
        "SELECT string_agg(post_id::text, ' ' ORDER BY post_id) FROM warehouse.posts",
        as: String.self)
      #expect(left == "1 2 3 4 7 8 9 10")
    }
  }

  @Test func anIDWithTwoReasonsIsQuarantinedAndARepeatedLineIsOneEvent() async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in
      Self.event(2) + Self.event(4, "delete", "protected") + Self.event(2) + Self.event(4)
    }
    try await Self.collecting(script) { fixture, report in
      #expect(report.datasets["posts"]?.events == 1)
      #expect(report.quarantined == 2)
      let lines = try await fixture.database.withConnection {
        try await $0.query(
          "SELECT line, convert_from(raw, 'UTF8') FROM lethe.quarantine ORDER BY 1"
        )
        .rows(as: Int.self, String.self)
      }
      #expect(lines.map(\.0) == [2, 4])
      #expect(lines.map { $0.1 + "\n" } == [Self.event(4, "delete", "protected"), Self.event(4)])
      let post = try await fixture.value(
        "SELECT visibility FROM warehouse.posts WHERE post_id = 4", as: String.self)
      #expect(post == "public")
    }
  }

  @Test func aGeoReasonNeverDeletesThePost() async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in
      Self.event(1, "delete", "scrub_geo") + Self.event(2, "delete", "geo_scrubbed")
        + Self.event(3, "scrub_geo", "geo_scrubbed")
    }
    try await Self.collecting(script) { fixture, report in
      #expect(report.datasets["posts"]?.rows == ["warehouse.posts": ["scrub_geo": 3]])
      let scrubbed = try await fixture.value(
        "SELECT count(*) FROM warehouse.posts WHERE latitude IS NULL", as: Int.self)
      #expect(scrubbed == 3)
    }
  }

  @Test(arguments: [true, false])
  func aTruncatedResultIsRefused(inTransit: Bool) async throws {
    var script = ScriptedAPI.Script()
    if inTransit {
      script.result = { $0.map { Self.event($0) }.joined() }
      script.bytesCut = 30
    } else {
      script.result = { ids in String(ids.map { Self.event($0) }.joined().dropLast(30)) }
    }
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT p, 1, 'text', now() FROM generate_series(1, 10) AS p
        """)
      try await ScriptedAPI(script).serving { url in
        let pipeline = try fixture.pipeline(api: url) { Self.postsOnly($0) }
        do {
          let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
          #expect(!inTransit)
          #expect(reports.last?.status == .failed)
          #expect(reports.last?.failures.first?.contains("middle of a line") == true)
        } catch {
          #expect(inTransit, "\(error)")
        }
      }
      let rows = try await fixture.value("SELECT count(*) FROM warehouse.posts", as: Int.self)
      #expect(rows == 10)
      let events = try await fixture.value(
        "SELECT (SELECT count(*) FROM lethe.collected) + (SELECT count(*) FROM lethe.event)",
        as: Int.self)
      #expect(events == 0)
    }
  }

  @Test(arguments: ["failed", "expired"])
  func aFailedJobIsRetriedALimitedNumberOfTimes(status: String) async throws {
    let api = ScriptedAPI(.init(status: status, error: "the spool is full"))
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        VALUES (1, 1, 'text', now())
        """)
      try await api.serving { url in
        let pipeline = try fixture.pipeline(api: url) { Self.postsOnly($0) }
        let report = try #require(
          try await fixture.withRuntime(pipeline) { try await $0.run() }.last)
        #expect(report.status == .failed)
        #expect(report.datasets["posts"]?.jobs == 3)
        let failure = try #require(report.failures.first)
        #expect(failure.contains("3 jobs failed"))
        #expect(failure.contains(status))
        #expect(failure.contains("the spool is full") == (status == "failed"))
        #expect(Set(api.jobNames).count == 3)
      }
      // The failed run is finished, so it does not delay the next run.
      let unfinished = try await fixture.value(
        "SELECT count(*) FROM lethe.run WHERE finished_at IS NULL", as: Int.self)
      #expect(unfinished == 0)
    }
  }

  @Test(arguments: [
    ("crc32c=yKvbmg==", false), ("crc32c=AAAAAA==", false), ("md5=1B2M2Y8AsgTpgAmY7PhCfg==", false),
    ("crc32c=AAAAAA==,md5=1B2M2Y8AsgTpgAmY7PhCfg==", true), ("sha1=unknown", true),
  ])
  func aResultWithAWrongChecksumIsRefused(
    hash: String, isEmpty: Bool
  ) async throws {
    var script = ScriptedAPI.Script()
    // The correct hashes among the arguments are the hashes of an empty result.
    script.result = { _ in isEmpty ? "" : Self.event(5) }
    script.hash = hash
    try await Self.collecting(script) { fixture, report in
      #expect(report.status == (isEmpty ? .done : .failed))
      #expect(isEmpty || report.failures.first?.contains("differs from the announced one") == true)
      let rows = try await fixture.value("SELECT count(*) FROM warehouse.posts", as: Int.self)
      #expect(rows == 10)
    }
  }

  /// A chunk that was stopped and approved much later must not undo the effects of newer answers.
  @Test func aLateAnswerDoesNotUndoANewerOne() async throws {
    let lines = TextSequence([
      CollectTests.event(1, "delete", "protected"),
      // Post 1 is clean. The deletions exceed the limit.
      (3...10).map { CollectTests.event($0) }.joined(),
      CollectTests.event(1, "delete", "protected"),
    ])
    var script = ScriptedAPI.Script()
    script.result = { _ in lines.next() }
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT p, 1, 'text', now() FROM generate_series(1, 10) AS p
        """)
      try await ScriptedAPI(script).serving { url in
        let pipeline = try fixture.pipeline(api: url) { Self.postsOnly($0) }
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
        let stopped = try #require(
          try await fixture.withRuntime(pipeline) { try await $0.run() }.last)
        #expect(stopped.status == .stopped)
        // The stopped run waits for an approval, so the command starts another run.
        let newer = try await fixture.withRuntime(pipeline) { try await $0.run() }
        #expect(newer.map(\.status) == [.stopped, .done])
        let chunk = try #require(stopped.stopped.first?.chunkID)
        _ = try await fixture.withRuntime(pipeline) { try await $0.apply(approving: chunk) }
      }
      let (visibility, rows) = try await fixture.database.withConnection {
        try await $0.query(
          """
          SELECT min(visibility), (SELECT count(*) FROM warehouse.posts) FROM warehouse.posts
          WHERE post_id = 1
          """
        ).onlyRow(as: String.self, Int.self)
      }
      #expect(visibility == "protected")
      // The newer result has no line about the other posts, so they are clean again.
      #expect(rows == 10)
      let superseded = try await fixture.value(
        "SELECT count(*) FROM lethe.event WHERE superseded_by IS NOT NULL AND action = 'ignore'",
        as: Int.self)
      #expect(superseded == 9)
      let holders = try await fixture.value(
        "SELECT array_agg(id)::text FROM lethe.holder WHERE type = 'tweets'", as: String.self)
      #expect(holders == "{1}")
    }
  }

  @Test func noRowIsRestoredIfALineOfTheResultHasNoID() async throws {
    let lines = TextSequence([
      CollectTests.event(1, "delete", "protected"),
      CollectTests.event(2, "delete", "protected") + "garbage\n", "",
    ])
    var script = ScriptedAPI.Script()
    script.result = { _ in lines.next() }
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        VALUES (1, 1, 'text', now()), (2, 1, 'text', now())
        """)
      try await ScriptedAPI(script).serving { url in
        let pipeline = try fixture.pipeline(api: url) { Self.postsOnly($0) }
        var seen: [String] = []
        for _ in 1...3 {
          _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
          seen.append(
            try await fixture.value(
              "SELECT visibility FROM warehouse.posts WHERE post_id = 1", as: String.self))
        }
        #expect(seen == ["protected", "protected", "public"])
      }
    }
  }
}
