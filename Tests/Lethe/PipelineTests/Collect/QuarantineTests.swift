import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// The commands `lethe quarantine list`, `retry` and `dismiss`.
@Suite struct QuarantineTests {
  /// Adds a line to a chunk's quarantine, in the form that an older version of Lethe used.
  static func addLine(
    _ fixture: PipelineFixture, _ line: Int, _ raw: String, id: Int64?, inChunk: Bool?,
    chunk: String = "min"
  ) async throws {
    try await fixture.database.withConnection {
      _ = try await $0.execute(
        """
        INSERT INTO lethe.quarantine (chunk_id, job_id, line, raw, why, id, in_chunk)
        SELECT chunk_id, job_id, \(literal: line), \(Array(raw.utf8)), 'unknown to an older version',
               \(id), \(inChunk)
        FROM lethe.job
        WHERE chunk_id = (SELECT \(trusted: chunk)(chunk_id) FROM lethe.chunk)
        """)
    }
  }

  /// The number of each open line, and the reason why it is in quarantine.
  private static func causes(_ fixture: PipelineFixture) async throws -> [String] {
    try await fixture.database.withConnection {
      try await $0.query(
        """
        SELECT line || ' ' || why FROM lethe.quarantine WHERE resolved_at IS NULL ORDER BY line
        """
      ).rows(as: String.self)
    }
  }

  static func posts(_ fixture: PipelineFixture) async throws -> String {
    try await fixture.value(
      "SELECT string_agg(post_id::text, ' ' ORDER BY post_id) FROM warehouse.posts",
      as: String.self)
  }

  static func retry(
    _ fixture: PipelineFixture, _ ids: Set<Int64>? = nil,
    _ change: @escaping (String) -> String = { $0 }
  ) async throws -> PipelineRuntime.RetryReport {
    let pipeline = try fixture.pipeline { change(CollectTests.postsOnly($0)) }
    return try await fixture.withRuntime(pipeline) { try await $0.retryQuarantined(ids) }
  }

  static func lethe(_ fixture: PipelineFixture, _ arguments: String...) async throws
    -> Program.Result
  {
    try await Program.run("lethe", ["quarantine"] + arguments, environment: fixture.environment)
  }

  // MARK: list

  @Test func everyKindOfLineIsListedAndSafeToPrint() async throws {
    let long = "{\"id\":\"" + String(repeating: "3", count: 70_000) + "\"}"
    let kinds: [(raw: String, why: String)] = [
      (#"{"id":"3","action":"withhold","reason":"deleted"}"#, "unknown action \"withhold\""),
      (#"{"id":"3","action":"delete","reason":"withheld"}"#, "unknown reason \"withheld\""),
      (#"{"id":"not_a_valid_id","error":"invalid_id"}"#, "the API says invalid_id"),
      (#"{"id":"3","action":"delete","#, "malformed JSON"),
      (#"{"id":"9223372036854775808","action":"delete","reason":"deleted"}"#, "not an integer"),
      (#"{"id":"77","action":"delete","reason":"deleted"}"#, "not in the chunk"),
      (#"["3"]"#, "not a JSON object"),
      (#"{"id":"3","action":"delete","reason":"a\u0000é"}"#, "unknown reason \"a??\""),
      (long, "over 65536 bytes"),
      (#"{"id":"2","action":"delete","reason":"deleted"}"#, "different reasons"),
      (#"{"id":"2","action":"delete","reason":"protected"}"#, "different reasons"),
      ("\u{1B}[2J\u{202E}", "malformed JSON"),
    ]
    var script = ScriptedAPI.Script()
    script.result = { _ in kinds.map { $0.raw + "\n" }.joined() }
    script.resultEnd = [0x7B, 0xFF, 0x7D, 0x0A]
    try await CollectTests.collecting(script) { fixture, report in
      #expect(report.quarantined == kinds.count + 1)
      let result = try await Self.lethe(fixture, "list", "--raw", "--output", "json")
      #expect(result.code == 0, "\(result.stderr)")
      #expect(result.json["open"] as? Int == kinds.count + 1)
      let lines = try #require(result.json["lines"] as? [[String: Any]])
      #expect(lines.count == kinds.count + 1)
      for (number, (line, kind)) in zip(lines, kinds).enumerated() {
        #expect(line["line"] as? Int == number + 1)
        #expect(line["job"] as? String == "1000")
        #expect(line["chunk_id"] as? Int == 1)
        let why = try #require(line["why"] as? String)
        if number < 11 { #expect(why.contains(kind.why), "\(why)") }
        #expect(line["raw"] as? String == String(kind.raw.prefix(65536)))
      }
      #expect(lines[0]["id"] as? String == "3")
      #expect(lines[0]["in_chunk"] as? Bool == true)
      #expect(lines[5]["in_chunk"] as? Bool == false)
      #expect(lines[12]["why"] as? String == "not UTF-8")
      #expect(lines[12]["raw"] == nil)
      #expect(lines[12]["raw_base64"] as? String == "e/99")

      let table = try await Self.lethe(fixture, "list").stdout
      #expect(!table.contains("\u{1B}"))
      #expect(!table.contains("\u{202E}"))
      #expect(table.split(separator: "\n").allSatisfy { $0.count < 250 })
      #expect(table.split(separator: "\n").count == kinds.count + 2)
      let short = try await Self.lethe(fixture, "list", "--output", "json")
      let cut = try #require((short.json["lines"] as? [[String: Any]])?[8])
      #expect((cut["raw"] as? String)?.count == 512)
      #expect(cut["raw_bytes"] as? Int == 65536)
      let page = try await Self.lethe(fixture, "list", "--limit", "2", "--after", "3")
      #expect(page.stdout.contains("the next ones: --after 5"))
      #expect(
        try await Self.lethe(fixture, "list", "--pipeline", "x").stdout == "no line is open\n")
    }
  }

  // MARK: retry

  @Test func aRetryAppliesValidLinesAndKeepsTheOthersWithAReason() async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in CollectTests.event(5) }
    try await CollectTests.collecting(script) { fixture, _ in
      for (line, id, reason, inChunk) in [
        (11, 3, "deleted", true), (12, 4, "deleted", nil), (13, 5, "deleted", true),
        (14, 77, "deleted", false), (15, 6, "deleted", true), (16, 6, "protected", true),
        (17, 7, "deleted", true), (18, 7, "deleted", true),
      ] as [(Int, Int64, String, Bool?)] {
        try await Self.addLine(
          fixture, line, CollectTests.event(id, "delete", reason), id: inChunk == nil ? nil : id,
          inChunk: inChunk)
      }
      try await Self.addLine(fixture, 19, "garbage", id: nil, inChunk: nil)

      let report = try await Self.retry(fixture)
      #expect(report.events == 2)
      #expect(report.superseded == 0)
      #expect(report.open == 7)
      #expect(report.runs.map(\.status) == [.done])
      #expect(try await Self.posts(fixture) == "1 2 4 6 8 9 10")
      #expect(
        try await Self.causes(fixture) == [
          "12 the ledger no longer records whether the chunk asked about the ID",
          "13 the chunk already has an event about the ID",
          "14 the ID is not in the chunk",
          "15 the ID comes with different reasons", "16 the ID comes with different reasons",
          "18 the chunk already has an event about the ID", "19 unknown to an older version",
        ])
      #expect(try await fixture.ledgerFaults() == [])
      let seals = try await fixture.value(
        """
        SELECT string_agg((content::jsonb ->> 'events') || '/' || (content::jsonb ->> 'records'), ' ' ORDER BY number)
        FROM lethe.seal WHERE chunk_id = 1
        """, as: String.self)
      #expect(seals == "1/1 3/3")
      let tombstones = try await fixture.value(
        "SELECT string_agg(id::text, ' ' ORDER BY id) FROM lethe.tombstone", as: String.self)
      #expect(tombstones == "3 5 7")
      // A second retry changes nothing.
      let again = try await Self.retry(fixture)
      #expect(again.events == 0 && again.open == 7 && again.runs.isEmpty)
    }
  }

  @Test func aRetryAppliesTheContradictingLineThatIsNotDismissed() async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in
      CollectTests.event(2, "delete", "protected") + CollectTests.event(2)
    }
    try await CollectTests.collecting(script) { fixture, _ in
      // A retry of one line does not ignore the other line.
      #expect(try await Self.retry(fixture, [2]).events == 0)
      let dismissed = try await Self.lethe(fixture, "dismiss", "1", "--note", "asked the author")
      #expect(dismissed.code == 0, "\(dismissed.stderr)")
      let report = try await Self.retry(fixture, [2])
      #expect(report.events == 1 && report.open == 0)
      #expect(try await Self.posts(fixture) == "1 3 4 5 6 7 8 9 10")
    }
  }

  @Test func aNewerAnswerSupersedesALineAndKeepsItsCoverage() async throws {
    try await CollectTests.collecting(.init()) { fixture, _ in
      try await ScriptedAPI(.init()).serving { url in
        // Each scripted API starts with the same job ID, so the first run's job needs another ID.
        try await fixture.execute("UPDATE lethe.job SET api_id = '1'")
        let pipeline = try fixture.pipeline(api: url) { CollectTests.postsOnly($0) }
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      }
      try await Self.addLine(fixture, 1, CollectTests.event(3), id: 3, inChunk: true)
      let report = try await Self.retry(fixture)
      #expect(report.events == 1 && report.superseded == 1 && report.open == 0)
      #expect(try await Self.posts(fixture) == "1 2 3 4 5 6 7 8 9 10")
      let (action, by) = try await fixture.database.withConnection {
        try await $0.query("SELECT action::text, superseded_by FROM lethe.event")
          .onlyRow(as: String.self, Int64.self)
      }
      #expect(action == "ignore" && by == 2)
      #expect(try await fixture.value("SELECT chunk_id FROM lethe.coverage", as: Int64.self) == 2)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aProtectionEndsWithARetriedGeoLine() async throws {
    let answers = TextSequence([
      CollectTests.event(1, "delete", "protected"),
      "garbage\n" + CollectTests.event(9, "scrub_geo", "geo_scrubbed"),
    ])
    var script = ScriptedAPI.Script()
    script.result = { _ in answers.next() }
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, latitude, created_at)
        SELECT p, 1, 'text', 1, now() FROM generate_series(1, 10) AS p
        """)
      try await ScriptedAPI(script).serving { url in
        let pipeline = try fixture.pipeline(api: url) { CollectTests.postsOnly($0) }
        for _ in 1...2 { _ = try await fixture.withRuntime(pipeline) { try await $0.run() } }
      }
      let line = CollectTests.event(1, "scrub_geo", "geo_scrubbed")
      try await Self.addLine(fixture, 2, line, id: 1, inChunk: true, chunk: "max")
      #expect(try await Self.retry(fixture).events == 1)
      let isRestored = try await fixture.value(
        "SELECT visibility = 'public' AND latitude IS NULL FROM warehouse.posts WHERE post_id = 1",
        as: Bool.self)
      #expect(isRestored)
    }
  }

  @Test func theLimitsAreCheckedAgainForAnApprovedChunk() async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in CollectTests.event(5) }
    try await CollectTests.collecting(script) { fixture, _ in
      try await fixture.execute(
        """
        UPDATE lethe.chunk SET approved_at = now();
        UPDATE lethe.run SET definition = jsonb_set(definition, '{limits,maxRedactedPercent}', '20')
        """)
      for id in [1, 2, 3] as [Int64] {
        try await Self.addLine(fixture, Int(id) + 1, CollectTests.event(id), id: id, inChunk: true)
      }
      let file = try fixture.definitionFile { CollectTests.postsOnly($0) }
      let before = try await LedgerImage(fixture)
      let refused = try await Self.lethe(fixture, "retry", file)
      #expect(refused.code == 3, "\(refused.stderr)")
      #expect(refused.stdout.contains("--approve --note TEXT"), "\(refused.stdout)")
      #expect(try await LedgerImage(fixture).differences(from: before) == [])
      #expect(try await Self.lethe(fixture, "retry", file, "--note", "why").code == 2)
      let approved = try await Self.lethe(
        fixture, "retry", file, "--approve", "--by", "ann", "--note", "looked")
      #expect(approved.code == 0, "\(approved.stderr)")
      #expect(try await Self.posts(fixture) == "4 6 7 8 9 10")
      let approval = try await fixture.value(
        "SELECT approved_by || ' ' || note FROM lethe.approval", as: String.self)
      #expect(approval == "ann looked")
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func linesThatTheirRunCannotApplyStayOpen() async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in "garbage\n" + CollectTests.event(9, "scrub_geo", "geo_scrubbed") }
    try await CollectTests.collecting(script) { fixture, _ in
      try await Self.addLine(
        fixture, 2, CollectTests.event(3, "delete", "bounced"), id: 3, inChunk: true)
      // The definition of the line's run has no action for the reason.
      try await fixture.execute(
        "UPDATE lethe.run SET definition = definition #- '{datasets,0,actions,bounced}'")
      #expect(try await Self.retry(fixture).events == 0)
      #expect(
        try await Self.causes(fixture).last
          == "2 the definition of its run has no action for bounced"
      )
      // The first change gives up the run. After the second change, the run's chunk is not applied yet.
      for change in [
        "UPDATE lethe.run SET status = 'failed', failure = 'given up', is_given_up = true",
        """
        UPDATE lethe.run SET status = 'running', failure = NULL, finished_at = NULL;
        UPDATE lethe.chunk SET state = 'collected', applied_at = NULL
        """,
      ] {
        try await fixture.execute(SQL(trusted: change))
        let report = try await Self.retry(fixture)
        #expect(report.events == 0 && report.open == 2)
      }
      #expect(try await Self.posts(fixture) == "1 2 3 4 5 6 7 8 9 10")
    }
  }

  @Test func anIDIsCoveredAfterItsLineBecomesAnEvent() async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in
      CollectTests.event(3, "delete", "withheld") + CollectTests.event(7, "delete", "withheld")
    }
    try await CollectTests.collecting(script) { fixture, _ in
      let checked: SQL = """
        SELECT coalesce(string_agg(concat_ws('-', first_id, last_id) || ':' || ids, ' ' ORDER BY first_id), '')
        FROM lethe.coverage
        """
      #expect(try await fixture.value(checked, as: String.self) == "1-2:2 4-6:3 8-10:3")
      // The test replaces the unknown reason with a known one, as if a newer version of Lethe knew the reason.
      let line = CollectTests.event(3, "delete", "suspended")
      try await fixture.execute(
        "UPDATE lethe.quarantine SET raw = convert_to('\(trusted: line)', 'UTF8') WHERE id = 3")
      #expect(try await Self.retry(fixture).events == 1)
      #expect(try await fixture.value(checked, as: String.self) == "1-6:6 8-10:3")
      let silence = try await fixture.value(
        """
        SELECT string_agg(concat_ws(' ', silence, id, ids_below), ', ' ORDER BY id)
        FROM lethe.job JOIN lethe.unspoken USING (job_id)
        """, as: String.self)
      #expect(silence == "spoken 3 2, spoken 7 6")
    }
  }

  // MARK: The exit code

  @Test func theExitCodeIs4WhileALineIsOpen() async throws {
    var script = ScriptedAPI.Script()
    script.result = { _ in "garbage\n" + #"{"id":"x","error":"invalid_id"}"# + "\n" }
    try await CollectTests.collecting(script) { fixture, _ in
      try await Self.addLine(fixture, 3, CollectTests.event(3), id: 3, inChunk: true)
      let file = try fixture.definitionFile { CollectTests.postsOnly($0) }
      let retried = try await Self.lethe(fixture, "retry", file, "--output", "json")
      #expect(retried.code == 4, "\(retried.stderr)")
      #expect(retried.json["events"] as? Int == 1)
      #expect(retried.json["open"] as? Int == 2)
      #expect(try await Self.posts(fixture) == "1 2 4 5 6 7 8 9 10")

      #expect(try await Self.lethe(fixture, "dismiss", "1").code == 2)
      #expect(try await Self.lethe(fixture, "dismiss", "--note", "why").code == 2)
      #expect(try await Self.lethe(fixture, "dismiss", "1", "--all", "--note", "why").code == 2)
      let unknown = try await Self.lethe(fixture, "dismiss", "1", "3", "99", "--note", "why")
      #expect(unknown.code == 1)
      #expect(unknown.stderr.contains("has the number 3, 99; nothing was changed"))
      #expect(try await Self.lethe(fixture, "retry", file, "99").code == 1)

      #expect(try await Self.lethe(fixture, "dismiss", "1", "--note", "no JSON").code == 0)
      #expect(try await Self.lethe(fixture, "retry", file).code == 4)
      let rest = try await Self.lethe(
        fixture, "dismiss", "--all", "--pipeline", "night", "--note", "not ours", "--output", "json"
      )
      #expect(rest.json["dismissed"] as? Int == 1)
      #expect(try await Self.lethe(fixture, "retry", file).code == 0)
      #expect(try await Self.lethe(fixture, "list").stdout == "no line is open\n")
      let all = try await Self.lethe(fixture, "list", "--all", "--output", "json")
      let lines = try #require(all.json["lines"] as? [[String: Any]])
      #expect(lines.map { $0["resolution"] as? String } == ["dismissed", "dismissed", "retried"])
      #expect(lines.map { $0["note"] as? String } == ["no JSON", "not ours", nil])
    }
  }
}
