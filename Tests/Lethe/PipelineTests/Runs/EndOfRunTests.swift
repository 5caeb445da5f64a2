import ComplianceAPI
import Foundation
import Ledger
import PostgreSQL
import Runtime
import SQLText
import TestSupport
import Testing

/// The output at the end of a run, for people and for programs, and the commands that can follow.
@Suite struct EndOfRunTests {
  private func error(_ result: Program.Result) throws -> [String: Any] {
    try #require(result.json["error"] as? [String: Any], "\(result.stdout) \(result.stderr)")
  }

  // MARK: One JSON object for each failure

  @Test func everyFailurePrintsOneJSONObjectWithTheError() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file()
      var environment = fixture.base.environment
      environment["COMPLIANCE_API_URL"] = fixture.base.service
      environment["X_BEARER_TOKEN"] = "wrong"
      let token = try await Program.run(
        "lethe", ["run", file, "--output", "json"], environment: environment)
      #expect(token.code == 77)
      #expect(try error(token)["code"] as? String == "credentials")
      #expect((try error(token)["remedy"] as? String)?.contains("token") == true)

      environment["DATABASE_URL"] = "host=/nonexistent dbname=x password=hunter2"
      let unreachable = try await Program.run(
        "lethe", ["run", file, "--output=json"], environment: environment)
      #expect(unreachable.code == 75)
      #expect(try error(unreachable)["code"] as? String == "temporary")
      #expect(!unreachable.stdout.contains("hunter2"))

      for arguments in [
        ["run", file, "--no-such-flag", "--output", "json"],
        ["apply", file, "--note", "x", "--output", "json"],
        ["retry", file, "--output=json"], ["run", "no-such-file.yaml", "--output", "json"],
      ] {
        let usage = try await Program.run(
          "lethe", arguments, environment: fixture.base.environment)
        #expect(usage.code == 2, "\(arguments)")
        #expect(try error(usage)["code"] as? String == "usage", "\(arguments)")
        #expect((try error(usage)["message"] as? String)?.isEmpty == false)
        #expect(usage.stdout.split(separator: "\n").count == 1)
      }
      let missing = try await fixture.lethe("retry", file, "99", "--output", "json")
      #expect(missing.code == 1)
      #expect(missing.json["status"] as? String == "failed")
      #expect((try error(missing)["message"] as? String)?.contains("chunk 99") == true)
      // Without the option, stdout stays empty.
      let table = try await fixture.lethe("retry", file, "99")
      #expect(table.stdout.isEmpty)
      #expect(table.stderr.contains("chunk 99"))
    }
  }

  /// The text output has the same remedy as the JSON. The server's hint can be the remedy.
  @Test(arguments: [
    "ALTER TABLE lethe.run RENAME COLUMN started_at TO moved",
    "ALTER TABLE lethe.run ADD CHECK (pipeline = 'another') NOT VALID",
  ])
  func aServerErrorHasARemedyInBothOutputs(change: String) async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(SQL(trusted: change))
      let file = try fixture.file()
      let json = try await fixture.lethe("run", file, "--output", "json")
      let remedy = try #require(try error(json)["remedy"] as? String)
      let table = try await fixture.lethe("run", file)
      #expect(json.code == 1 && table.code == 1, "\(table.stderr)")
      #expect(!remedy.isEmpty)
      let lines = ["hint", "remedy"].map { "\n  \($0): \(remedy)" }
      #expect(lines.contains { table.stderr.contains($0) }, "\(table.stderr)")
    }
  }

  @Test func aPipelineThatAnotherProcessWorksOnIsReportedAsAJSONObject() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.withOtherWorker {
        let locked = try await fixture.lethe("run", try fixture.file(), "--output", "json")
        #expect(locked.code == 6)
        #expect(try error(locked)["code"] as? String == "locked")
      }
    }
  }

  // MARK: Errors of one job

  @Test(arguments: [400, 409, 413])
  func anUnexpectedResponseForOneJobSetsItsChunkAside(status: Int) async throws {
    try await RefusalFixture.with(configure: {
      $0.problem = { $0.contains("-c2-") ? status : nil }
    }) { fixture in
      let file = try fixture.file()
      let result = try await fixture.lethe("run", file, "--output", "json")
      #expect(result.code == 5, "\(result.stderr)")
      let setAside = try #require(result.json["set_aside"] as? [[String: Any]])
      #expect(setAside.compactMap { $0["chunk_id"] as? Int } == [2])
      #expect((setAside[0]["reason"] as? String)?.contains("\(status)") == true)
      #expect(setAside[0]["command"] as? String == "lethe run \(file)")
      #expect(try await fixture.unfinishedPosts() == [12, 16, 20])
      #expect(try await fixture.usersLeft() == "1008 protected")
      let alive: SQL = "SELECT count(*) FROM lethe.job WHERE ended_at IS NULL"
      #expect(try await fixture.base.value(alive, as: Int.self) == 0)
      // The chunk has no result that a retry could apply. The next run asks about the chunk's IDs again and supersedes
      // the chunk.
      let retried = try await fixture.lethe("retry", file, "2", "--output", "json")
      #expect(retried.code == 1)
      #expect((try error(retried)["remedy"] as? String)?.contains("again") == true)
      let again = try await fixture.lethe("run", file, "--output", "json")
      #expect(again.code == 0, "\(again.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      let after = try await fixture.lethe("status", "--output", "json")
      #expect((after.json["set_aside"] as? [Any])?.isEmpty == true)
    }
  }

  /// The API returns the job, but the download of the result fails. A later attempt can return the result.
  @Test func aResultThatIsNotAvailableDelaysOnlyItsChunk() async throws {
    let isFixed = Flag()
    try await RefusalFixture.with(configure: {
      $0.downloadProblem = { !isFixed.isSet && $0.contains("-c2-") ? 503 : nil }
    }) { fixture in
      let pipeline = try fixture.pipeline()
      await #expect(throws: APIError.self) { try await fixture.run(pipeline) }
      #expect(try await fixture.unfinishedPosts() == [12, 16, 20])
      #expect(try await fixture.usersLeft() == "1008 protected")
      let waiting = try await fixture.base.value(
        """
        SELECT string_agg(chunk_id || ' ' || state, ', ') FROM lethe.chunk WHERE state <> 'applied'
        """,
        as: String.self)
      #expect(waiting == "2 complete")
      isFixed.set()
      #expect(try await fixture.run(pipeline).map(\.status) == [.done, .done])
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }

  @Test func aDatasetThatCannotBeExportedDoesNotStopTheOthers() async throws {
    try await RefusalFixture.with { fixture in
      func file(_ condition: String) throws -> String {
        try fixture.base.definitionFile {
          RefusalFixture.definition("batch: 20", ids: 10)($0)
            .editing("chunk: {ids: 10}", to: "where: \"\(condition)\"\n    chunk: {ids: 10}")
        }
      }
      for _ in 1...2 {
        let result = try await fixture.lethe(
          "run", try file("1 / (post_id - 50) < 2"), "--output", "json")
        #expect(result.code == 5, "\(result.stderr)")
        #expect(result.json["status"] as? String == "failed")
        #expect((result.json["failures"] as? [String])?.first?.contains("22012") == true)
        #expect((try error(result)["message"] as? String)?.contains("posts") == true)
        #expect(try await fixture.usersLeft() == "1008 protected")
      }
      let open: SQL = "SELECT count(*) FROM lethe.run WHERE finished_at IS NULL"
      #expect(try await fixture.base.value(open, as: Int.self) == 0)
      #expect(try await fixture.lethe("run", try file("post_id > 0")).code == 0)
      #expect(try await fixture.unfinishedPosts() == [])
    }
  }

  // MARK: Stopped runs

  @Test func aStoppedRunNamesTheApprovalCommandAndItsChunkNumberStaysValid() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.base.definitionFile {
        RefusalFixture.definition("batch: 20", ids: 100)($0)
          .editing("max_redacted_percent: 100", to: "max_redacted_percent: 24.5")
      }
      let command = "lethe apply \(file) --approve 1"
      let stopped = try await fixture.lethe("run", file)
      #expect(stopped.code == 3, "\(stopped.stderr)")
      #expect(stopped.stdout.contains(command), "\(stopped.stdout)")
      #expect(!stopped.stdout.contains("as intended"))
      let status = try await fixture.lethe("status")
      #expect(status.stdout.contains(command), "\(status.stdout)")
      #expect(status.stdout.contains("max_redacted_percent"))
      // The second run asks about the same posts again. The chunk number of the first run is still valid.
      let secondRun = try await fixture.lethe("run", file, "--output", "json")
      #expect(secondRun.code == 3)
      #expect(try error(secondRun)["code"] as? String == "limit_stopped")
      #expect((try error(secondRun)["remedy"] as? String)?.contains(command) == true)
      let approved = try await fixture.lethe(
        "apply", file, "--approve", "1", "--by", "Ann", "--note", "expected deletions",
        "--output", "json")
      #expect(approved.code != 1 && approved.code != 2, "\(approved.stderr)")
      let isApplied: SQL = "SELECT state = 'applied' FROM lethe.chunk WHERE chunk_id = 1"
      #expect(try await fixture.base.value(isApplied, as: Bool.self))
      // The newer answers belong to the second run's chunk, which needs its own approval.
      let second = try await fixture.base.value(
        "SELECT chunk_id FROM lethe.chunk WHERE stopped_reason IS NOT NULL", as: Int64.self)
      let repeated = try await fixture.lethe("apply", file, "--approve", "1", "--output", "json")
      #expect(repeated.code == 1)
      #expect((try error(repeated)["remedy"] as? String)?.contains("--approve \(second)") == true)
      _ = try await fixture.lethe("apply", file, "--approve", "\(second)")
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }

  @Test func anApprovalIsKeptSealedAndShown() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.base.definitionFile {
        RefusalFixture.definition("batch: 20", ids: 100)($0)
          .editing("max_redacted_percent: 100", to: "max_redacted_percent: 24.5")
      }
      #expect(try await fixture.lethe("run", file).code == 3)
      let result = try await fixture.lethe(
        "apply", file, "--approve", "1", "--by", "Ann", "--note", "expected deletions")
      #expect(result.code == 0, "\(result.stderr)")
      let audit = try await fixture.lethe("audit", "show", "4", "--type", "tweets")
      #expect(audit.stdout.contains("by Ann: expected deletions"), "\(audit.stdout)")
      let json = try await fixture.lethe("audit", "show", "4", "--output", "json")
      let approvals = try #require(json.json["approvals"] as? [[String: Any]])
      #expect(approvals.first?["approved_by"] as? String == "Ann")
      #expect(approvals.first?["seal"] as? Int != nil)
      #expect(try await fixture.lethe("audit", "verify").code == 0)
      for (forgery, undo) in [
        (
          "UPDATE lethe.approval SET approved_by = 'Bob'",
          "UPDATE lethe.approval SET approved_by = 'Ann'"
        ),
        (
          "UPDATE lethe.approval SET note = NULL",
          "UPDATE lethe.approval SET note = 'expected deletions'"
        ),
        (
          "CREATE TABLE kept AS TABLE lethe.approval; DELETE FROM lethe.approval",
          "INSERT INTO lethe.approval OVERRIDING SYSTEM VALUE TABLE kept"
        ),
        (
          """
          INSERT INTO lethe.approval (chunk_id, stopped_reason, approved_by) VALUES (1, 'x', 'Eve')
          """,
          "DELETE FROM lethe.approval WHERE approved_by = 'Eve'"
        ),
      ] {
        try await fixture.base.execute(SQL(trusted: forgery))
        let found = try await fixture.lethe("audit", "verify")
        #expect(found.code == 1, "\(forgery)")
        #expect(found.stdout.contains("lethe.approval"), "\(forgery)")
        try await fixture.base.execute(SQL(trusted: undo))
        #expect(try await fixture.lethe("audit", "verify").code == 0, "\(undo)")
      }
    }
  }

  @Test func theApproverIsTheSystemUserByDefault() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.base.definitionFile {
        RefusalFixture.definition("batch: 20", ids: 100)($0)
          .editing("max_redacted_percent: 100", to: "max_redacted_percent: 24.5")
      }
      #expect(try await fixture.lethe("run", file).code == 3)
      #expect(try await fixture.lethe("apply", file, "--approve", "1", "--by", " ").code == 2)
      #expect(try await fixture.lethe("apply", file, "--approve", "1").code == 0)
      let by = try await fixture.base.value(
        "SELECT approved_by FROM lethe.approval", as: String.self)
      #expect(by == NSUserName())
    }
  }

  // MARK: Several reasons in one run

  @Test func theExitCodeReportsALimitBeforeSetAsideWorkAndQuarantine() async throws {
    let result: @Sendable ([Int64]) -> String = {
      RefusalFixture.answers($0) + ($0.contains(5) ? "garbage\n" : "")
    }
    try await RefusalFixture.with(result) { fixture in
      try await fixture.base.execute(
        """
        CREATE TABLE public.bookmarks (post_id bigint REFERENCES warehouse.posts);
        INSERT INTO public.bookmarks VALUES (4)
        """)
      let file = try fixture.file()
      #expect(try await fixture.lethe("run", file).code == 5)
      // In the second run, no chunk of posts has 15 % of its IDs left to apply, but a chunk of users has.
      try await fixture.base.execute(
        """
        INSERT INTO warehouse.users (user_id, username, created_at)
        SELECT 2000 + 4 * u, 'user', now() FROM generate_series(1, 40) AS u
        """)
      _ = try fixture.base.definitionFile {
        RefusalFixture.definition("batch: 20", ids: 10)($0)
          .editing("max_redacted_percent: 100", to: "max_redacted_percent: 15")
      }
      let three = try await fixture.lethe("run", file)
      #expect(three.code == 3, "\(three.stdout)")
      #expect(three.stdout.contains("refused") && three.stdout.contains("quarantine"))
      // The cause of the refusal is removed, and the open run is given up. After that, only the quarantine is left.
      try await fixture.base.execute(
        "DELETE FROM public.bookmarks; DELETE FROM warehouse.users WHERE user_id > 2000")
      #expect(try await fixture.lethe("run", file, "--give-up").code == 4)
      try await fixture.base.execute("DELETE FROM warehouse.posts WHERE post_id BETWEEN 1 AND 10")
      let clean = try await fixture.lethe("run", file)
      #expect(clean.code == 4, "\(clean.stdout)")
      #expect(clean.stdout.contains("from earlier runs"))
      #expect(!clean.stdout.contains("as intended"))
      #expect(
        try await fixture.lethe("quarantine", "dismiss", "--all", "--note", "seen").code == 0)
      let done = try await fixture.lethe("run", file)
      #expect(done.code == 0, "\(done.stdout)")
      #expect(done.stdout.contains("all are as intended"))
    }
  }

  // MARK: Retry

  /// A retry does not apply an answer that a newer answer superseded.
  @Test(arguments: ["batch: 20", "atomic: chunk"])
  func aRetrySkipsAnAnswerThatIsSuperseded(batch: String) async throws {
    let isRestored = Flag()
    let result: @Sendable ([Int64]) -> String = {
      isRestored.isSet ? "" : RefusalFixture.answers($0)
    }
    try await RefusalFixture.with(result) { fixture in
      try await fixture.base.execute(
        """
        CREATE TABLE public.bookmarks (post_id bigint REFERENCES warehouse.posts);
        INSERT INTO public.bookmarks VALUES (4)
        """)
      let pipeline = try fixture.pipeline(batch: batch)
      #expect(try await fixture.run(pipeline).last?.status == .failed)
      // The author restored the post.
      isRestored.set()
      #expect(try await fixture.run(pipeline).map(\.status) == [.done])
      try await fixture.base.execute("DELETE FROM public.bookmarks")
      await #expect(throws: LedgerError.self) { try await fixture.retry(pipeline, ids: [4]) }
      _ = try? await fixture.retry(pipeline, 1)
      let there: SQL = "SELECT count(*) FROM warehouse.posts WHERE post_id = 4"
      #expect(try await fixture.base.value(there, as: Int.self) == 1)
      #expect(try await EvidenceChain(of: fixture).isIntact())
      let file = try fixture.file(batch: batch)
      #expect(try await fixture.lethe("status").stdout.contains(file) == false)
    }
  }

  @Test func aRetryChecksTheLimitsAgainAndUsesTheDefinitionOfItsRun() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(
        """
        CREATE TABLE public.bookmarks (post_id bigint REFERENCES warehouse.posts);
        INSERT INTO public.bookmarks VALUES (4)
        """)
      let pipeline = try fixture.pipeline(batch: "atomic: chunk")
      let chunk = try #require(try await fixture.run(pipeline).last?.setAside.first?.chunkID)
      try await fixture.base.execute(
        """
        DELETE FROM public.bookmarks;
        UPDATE lethe.run SET definition = jsonb_set(definition, '{limits,maxRedactedPercent}', '5')
        """)
      let stopped = try #require(try await fixture.retry(pipeline, chunk))
      #expect(stopped.stopped.map(\.chunkID) == [chunk])
      #expect(try await fixture.unfinishedPosts() == [4, 8])
      let approved = try await fixture.base.withRuntime(pipeline) {
        try await $0.apply(approving: chunk)
      }
      #expect(approved.runs.last?.status == .done)
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }

  /// The process is killed after the chunk is reopened and before it is applied.
  @Test func anInterruptedRetryIsFinishedByTheNextRun() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(
        """
        CREATE TABLE public.bookmarks (post_id bigint REFERENCES warehouse.posts);
        INSERT INTO public.bookmarks VALUES (4)
        """)
      let pipeline = try fixture.pipeline()
      #expect(try await fixture.run(pipeline).last?.refused.count == 1)
      try await fixture.base.execute("DELETE FROM public.bookmarks")
      try await fixture.base.database.withConnection {
        let ledger = ChunkLedger(connection: $0, lease: Lease())
        try await ledger.retried(ledger.chunk(1), ids: [4]) { ids, _ in ids }
      }
      let reports = try await fixture.base.withRuntime(pipeline) {
        try await $0.run(resumeOnly: true)
      }
      #expect(reports.map(\.status) == [.done])
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }
}
