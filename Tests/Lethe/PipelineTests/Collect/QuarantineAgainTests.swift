import Evidence
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Quarantined lines that a later result repeats or answers, that a retry cannot apply, or that are pruned.
@Suite struct QuarantineAgainTests {
  /// Creates the posts 1 to 10. Each call of `next` is one run, and the run gets the next of the results.
  private static func withRuns(
    _ results: [String],
    _ body:
      @escaping @Sendable (PipelineFixture, _ next: @Sendable () async throws -> RunReport)
      async throws
      -> Void
  ) async throws {
    let answers = TextSequence(results)
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
        try await body(fixture) {
          try #require(try await fixture.withRuntime(pipeline) { try await $0.run() }.last)
        }
      }
    }
  }

  private static func withheld(_ id: Int64, _ word: String = "withheld", at time: Int = 1) -> String
  {
    #"{"id":"\#(id)","action":"delete","reason":"\#(word)","redacted_at":"2026-01-0\#(time)T00:00:00.000Z"}"#
      + "\n"
  }

  /// Each line, in order: its ID, its job, how often it was seen, and its status.
  private static func lines(_ fixture: PipelineFixture) async throws -> [String] {
    try await fixture.database.withConnection {
      try await $0.query(
        """
        SELECT concat_ws(' ', coalesce(q.id::text, '-'), 'job ' || q.job_id, seen || 'x',
                         coalesce(resolution, 'open'))
        FROM lethe.quarantine AS q ORDER BY q.quarantine_id
        """
      ).rows(as: String.self)
    }
  }

  // MARK: Seen again

  @Test(arguments: [
    ("3", (1...5).map { withheld(3, at: $0) }),
    ("3", (1...5).map { #"{"at":"\#($0)","id":"3","action":"withhold"}"# + "\n" }),
    ("-", Array(repeating: "garbage\n", count: 5)),
    ("-", Array(repeating: #"{"id":"x","error":"invalid_id"}"# + "\n", count: 5)),
    ("77", (1...5).map { CollectTests.event(77).replacing("2021-08-1", with: "2021-08-0\($0)") }),
    ("3", Array(repeating: #"{"id":"3","action":"delete""# + "\n", count: 5)),
  ])
  func theSameLineInFiveRunsIsOneOpenLine(about id: String, results: [String]) async throws {
    try await Self.withRuns(results.map { $0 + CollectTests.event(9, "scrub_geo", "geo_scrubbed") })
    {
      fixture, next in
      for _ in 1...5 {
        let report = try await next()
        #expect(report.quarantineOpen == 1)
        #expect(report.quarantined == 1)
      }
      let lines = try await Self.lines(fixture)
      #expect(lines.count == 1)
      #expect(lines.first?.hasSuffix(" job 5 5x open") == true, "\(lines)")
      let (isRaw, isLater) = try await fixture.database.withConnection {
        try await $0.query(
          """
          SELECT raw = \(Array(results[4].dropLast().utf8)), last_seen_at > quarantined_at
          FROM lethe.quarantine
          """
        ).onlyRow(as: Bool.self, Bool.self)
      }
      #expect(isRaw && isLater)
      let listed = try await QuarantineTests.lethe(fixture, "list", "--output", "json")
      #expect(listed.json["open"] as? Int == 1)
      let line = try #require((listed.json["lines"] as? [[String: Any]])?.first)
      #expect(line["seen"] as? Int == 5)
      #expect(line["last_seen_at"] as? String != nil)
      let table = try await QuarantineTests.lethe(fixture, "list").stdout
      #expect(table.contains("last seen"))
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aDifferentTextOrIDIsADifferentLine() async throws {
    let result =
      Self.withheld(3) + Self.withheld(4) + Self.withheld(3, "hidden") + "x\n" + "y\n"
      // A line that occurs twice in one result counts as seen once.
      + Self.withheld(3, at: 2) + "x\n"
    try await Self.withRuns([result, result, Self.withheld(4) + "x\n"]) { fixture, next in
      #expect(try await next().quarantineOpen == 5)
      #expect(try await next().quarantineOpen == 5)
      // Bytes that are not JSON can be about any ID. So the silence of this result about post 3 does not mean clean.
      #expect(try await next().quarantineOpen == 5)
      let lines = try await Self.lines(fixture)
      #expect(
        lines == [
          "3 job 2 2x open", "4 job 3 3x open", "3 job 2 2x open", "- job 3 3x open",
          "- job 2 2x open",
        ])
    }
  }

  @Test func aDismissedLineIsOpenWhenItAppearsAgain() async throws {
    try await Self.withRuns([Self.withheld(3), Self.withheld(3)]) { fixture, next in
      _ = try await next()
      let dismissed = try await QuarantineTests.lethe(fixture, "dismiss", "1", "--note", "asked")
      #expect(dismissed.code == 0)
      #expect(try await next().quarantineOpen == 1)
      #expect(try await Self.lines(fixture) == ["3 job 1 1x dismissed", "3 job 2 1x open"])
    }
  }

  // MARK: Answered

  /// The result of a second run, and its effect on the first run's line.
  struct SecondRun: Sendable, CustomTestStringConvertible {
    let name: String
    var setupSQL: SQL = ""
    let result: String
    /// The expected state of the first run's line about post 3, in the form of `lines`.
    let expectedLine: String

    var testDescription: String { name }
  }

  private static let secondRuns = [
    SecondRun(name: "an event", result: CollectTests.event(3), expectedLine: "3 job 1 1x answered"),
    SecondRun(name: "silence", result: CollectTests.event(5), expectedLine: "3 job 1 1x answered"),
    SecondRun(name: "only blank lines", result: "\n\n", expectedLine: "3 job 1 1x answered"),
    SecondRun(
      name: "an event and unreadable bytes",
      result: CollectTests.event(3) + "garbage\n",
      expectedLine: "3 job 1 1x answered"),
    SecondRun(
      name: "silence and an unreadable line", result: CollectTests.event(5) + "garbage\n",
      expectedLine: "3 job 1 1x open"),
    SecondRun(
      name: "another unknown reason", result: withheld(3, "hidden"), expectedLine: "3 job 1 1x open"
    ),
    SecondRun(
      name: "an event and the same unknown reason", result: CollectTests.event(3) + withheld(3),
      expectedLine: "3 job 2 2x open"),
    SecondRun(
      name: "an event and another unknown reason",
      result: CollectTests.event(3) + withheld(3, "hidden"),
      expectedLine: "3 job 1 1x open"),
    SecondRun(
      name: "the row no longer exists", setupSQL: "DELETE FROM warehouse.posts WHERE post_id = 3",
      result: CollectTests.event(5), expectedLine: "3 job 1 1x open"),
  ]

  @Test(arguments: secondRuns)
  func onlyATrustedAnswerAboutTheIDResolvesTheLine(second: SecondRun) async throws {
    try await Self.withRuns([Self.withheld(3) + CollectTests.event(9), second.result]) {
      fixture, next in
      _ = try await next()
      if !second.setupSQL.isEmpty { try await fixture.execute(second.setupSQL) }
      let report = try await next()
      let lines = try await Self.lines(fixture)
      #expect(lines.first == second.expectedLine)
      #expect(report.quarantineOpen == lines.filter { $0.hasSuffix("open") }.count)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aLaterAnswerResolvesALineAboutAnIDThatWasNotInTheChunk() async throws {
    try await Self.withRuns([CollectTests.event(77) + CollectTests.event(9), CollectTests.event(5)])
    {
      fixture, next in
      #expect(try await next().quarantineOpen == 1)
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at) VALUES (77, 1, 'x', now())
        """
      )
      #expect(try await next().quarantineOpen == 0)
      #expect(try await Self.lines(fixture) == ["77 job 1 1x answered"])
      let note = try await fixture.value("SELECT note FROM lethe.quarantine", as: String.self)
      #expect(note == "job 1001 has answered about the ID")
    }
  }

  // MARK: Refused

  /// A cause that makes a retry fail, and the SQL that removes the cause.
  struct Cause: Sendable, CustomTestStringConvertible {
    let name: String
    let sql: SQL
    let repair: String
    let messagePart: String
    var reason = "protected"

    var testDescription: String { name }
  }

  private static let causes = [
    Cause(
      name: "a constraint",
      sql: "ALTER TABLE warehouse.posts ADD CONSTRAINT shown CHECK (visibility <> 'protected')",
      repair: "ALTER TABLE warehouse.posts DROP CONSTRAINT shown", messagePart: "shown"),
    Cause(
      name: "a foreign key",
      sql: """
        CREATE TABLE warehouse.kept (post bigint REFERENCES warehouse.posts);
        INSERT INTO warehouse.kept VALUES (3)
        """, repair: "DROP TABLE warehouse.kept", messagePart: "kept", reason: "deleted"),
    Cause(
      name: "a trigger",
      sql: """
        CREATE FUNCTION warehouse.refuse() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN RAISE 'not %', OLD.text; END$$;
        CREATE TRIGGER refuse BEFORE UPDATE ON warehouse.posts FOR EACH ROW
          EXECUTE FUNCTION warehouse.refuse()
        """, repair: "DROP TRIGGER refuse ON warehouse.posts", messagePart: "warehouse.refuse"),
    Cause(
      name: "a deferred trigger",
      sql: """
        CREATE FUNCTION warehouse.refuse() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN RAISE 'not %', OLD.text USING ERRCODE = '23514'; END$$;
        CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON warehouse.posts DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION warehouse.refuse()
        """, repair: "DROP TRIGGER refuse ON warehouse.posts", messagePart: "warehouse.refuse"),
    Cause(
      name: "a limit",
      sql: """
        CREATE TABLE public.definition AS SELECT definition FROM lethe.run;
        UPDATE lethe.run SET definition = jsonb_set(definition, '{limits,maxRedactedRows}', '1')
        """,
      repair: "UPDATE lethe.run SET definition = (SELECT definition FROM public.definition)",
      messagePart: "--approve"),
    Cause(
      name: "a definition that cannot be read",
      sql: """
        CREATE TABLE public.definition AS SELECT definition FROM lethe.run;
        UPDATE lethe.run SET definition = '{}'
        """,
      repair: "UPDATE lethe.run SET definition = (SELECT definition FROM public.definition)",
      messagePart: "cannot read"),
    Cause(
      name: "a definition that does not fit",
      sql: "ALTER TABLE warehouse.posts RENAME visibility TO shown",
      repair: "ALTER TABLE warehouse.posts RENAME shown TO visibility", messagePart: "does not fit"),
  ]

  @Test(arguments: causes)
  func aRetryThatCannotApplyTheLineChangesNothing(cause: Cause) async throws {
    try await Self.withRuns([CollectTests.event(5)]) { fixture, next in
      _ = try await next()
      let line = CollectTests.event(3, "delete", cause.reason)
      try await QuarantineTests.addLine(fixture, 2, line, id: 3, inChunk: true)
      try await fixture.execute(cause.sql)
      let before = try await LedgerImage(fixture)
      let report = try await QuarantineTests.retry(fixture)
      #expect(report.events == 0 && report.open == 1 && report.runs.isEmpty)
      let refused = try #require(report.refused.first)
      #expect("\(refused.why) \(refused.remedy)".contains(cause.messagePart), "\(refused)")
      #expect(!"\(report)".contains("not text"))
      #expect(refused.isLimit == (cause.name == "a limit"))
      #expect(try await LedgerImage(fixture).differences(from: before) == [])
      // The command also changes nothing, and its exit code shows the refusal.
      let file = try fixture.definitionFile { CollectTests.postsOnly($0) }
      let retried = try await QuarantineTests.lethe(fixture, "retry", file, "--output", "json")
      #expect(retried.code == (refused.isLimit ? 3 : 4), "\(retried.stderr)")
      #expect(try await LedgerImage(fixture).differences(from: before) == [])

      try await fixture.execute(SQL(trusted: cause.repair))
      let repaired = try await QuarantineTests.retry(fixture)
      #expect(repaired.events == 1 && repaired.open == 0 && repaired.refused.isEmpty)
      #expect(repaired.runs.map(\.status) == [.done])
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aRetryThatGetsNoLockChangesNothing() async throws {
    try await Self.withRuns([CollectTests.event(5)]) { fixture, next in
      _ = try await next()
      try await QuarantineTests.addLine(
        fixture, 2, CollectTests.event(3, "delete", "protected"), id: 3, inChunk: true)
      try await fixture.execute(
        """
        CREATE FUNCTION warehouse.wait() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN RAISE 'locked' USING ERRCODE = '55P03'; END$$;
        CREATE TRIGGER wait BEFORE UPDATE ON warehouse.posts FOR EACH ROW
          EXECUTE FUNCTION warehouse.wait()
        """)
      let before = try await LedgerImage(fixture)
      await #expect(throws: PostgreSQLError.self) { try await QuarantineTests.retry(fixture) }
      #expect(try await LedgerImage(fixture).differences(from: before) == [])
      // If another process works on the pipeline, nothing changes either.
      let file = try fixture.definitionFile { CollectTests.postsOnly($0) }
      try await fixture.withOtherWorker {
        let result = try await QuarantineTests.lethe(fixture, "retry", file)
        #expect(result.code == 6)
      }
      #expect(try await LedgerImage(fixture).differences(from: before) == [])
    }
  }

  @Test func aLineThatCannotBeAppliedDoesNotStopTheOtherLines() async throws {
    try await Self.withRuns([CollectTests.event(5)]) { fixture, next in
      _ = try await next()
      for id in [2, 3, 4] as [Int64] {
        try await QuarantineTests.addLine(
          fixture, Int(id), CollectTests.event(id), id: id, inChunk: true)
      }
      try await fixture.execute(
        """
        CREATE TABLE warehouse.kept (post bigint REFERENCES warehouse.posts);
        INSERT INTO warehouse.kept VALUES (3)
        """)
      let report = try await QuarantineTests.retry(fixture)
      #expect(report.events == 2 && report.open == 1)
      #expect(report.refused.map(\.id) == ["3"])
      #expect(report.runs.map(\.status) == [.done])
      #expect(try await QuarantineTests.posts(fixture) == "1 3 6 7 8 9 10")
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  // MARK: Pruned

  @Test func oldResolvedLinesArePrunedAndASealRecordsThePruning() async throws {
    try await Self.withRuns([Self.withheld(3) + Self.withheld(4) + Self.withheld(6) + "x\n"]) {
      fixture, next in
      _ = try await next()
      try await fixture.execute(
        """
        UPDATE lethe.quarantine SET quarantined_at = now() - interval '1 year';
        UPDATE lethe.quarantine SET resolved_at = now() - interval '91 days', resolution = 'dismissed',
          note = 'n' WHERE id = 3;
        UPDATE lethe.quarantine SET resolved_at = now() - interval '89 days', resolution = 'retried'
          WHERE id = 4
        """)
      let prune = ["prune", "--older-than", "90d", "--output", "json"]
      let bytes = Self.withheld(3).utf8.count - 1
      for isDry in [true, false] {
        let pruned = try await Program.run(
          "lethe", ["quarantine"] + prune + (isDry ? ["--dry-run"] : []),
          environment: fixture.environment)
        #expect(pruned.code == 0, "\(pruned.stderr)")
        #expect(pruned.json["lines"] as? Int == 1)
        #expect(pruned.json["bytes"] as? Int == bytes)
        #expect((pruned.json["seal"] as? Int == nil) == isDry)
        #expect(try await Self.lines(fixture).count == (isDry ? 4 : 3))
      }
      let sealed = try await fixture.value(
        """
        SELECT (content::jsonb ->> 'quarantine_lines') || ' ' ||
               ((content::jsonb ->> 'resolved_before')::timestamptz < now() - interval '89 days')
        FROM lethe.seal WHERE kind = 'prune'
        """, as: String.self)
      #expect(sealed == "1 true")
      let verified = try await fixture.database.withConnection {
        try await AuditLedger(connection: $0).verify()
      }
      #expect(verified.faults.map(\.problem) == [])
      let none = try await QuarantineTests.lethe(fixture, "prune", "--older-than", "3months")
      #expect(none.code == 0 && none.stdout.contains("nothing to drop"))
      #expect(try await QuarantineTests.lethe(fixture, "prune", "--older-than", "soon").code == 2)
      #expect(try await Self.lines(fixture).filter { $0.hasSuffix("open") }.count == 2)
    }
  }
}
