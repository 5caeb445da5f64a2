import ComplianceService
import Foundation
import Ledger
import PostgreSQL
import TestSupport
import Testing
import Vocabulary

/// The output and the exit codes of the `lethe` commands.
@Suite struct CommandTests {
  private func lethe(_ fixture: PipelineFixture, _ arguments: String...) async throws
    -> Program.Result
  {
    try await Program.run("lethe", arguments, environment: fixture.environment)
  }

  @Test func theLastLineOfStdoutIsOneJSONObject() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let result = try await lethe(fixture, "run", try fixture.definitionFile(), "--output", "json")
      #expect(result.code == 0, "\(result.stderr)")
      #expect(result.json["run_id"] as? Int == 1)
      #expect(result.json["status"] as? String == "done")
      let datasets = try #require(result.json["datasets"] as? [String: [String: Any]])
      for key in ["ids", "chunks", "jobs", "events", "rows", "quarantined", "seconds"] {
        #expect(datasets["posts"]?[key] != nil, "\(key)")
      }
      #expect((datasets["posts"]?["seconds"] as? [String: Double])?.count == 5)
      let slots = try #require(result.json["slots"] as? [String: [String: Any]])
      #expect(Set(slots.keys) == ["tweets", "users"])
      #expect(slots["tweets"]?["jobs"] as? Int == datasets["posts"]?["jobs"] as? Int)
      #expect(try #require(slots["tweets"]?["busy_seconds"] as? Double) > 0)
      let again = try await lethe(fixture, "run", try fixture.definitionFile())
      #expect(again.stdout.contains("no row had to be changed"))
    }
  }

  /// Four jobs at fixed times. The slot is idle only while a chunk waits: the last chunk is exported late.
  @Test func theSlotIsIdleWhileAChunkWaits() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 2500)
      #expect(try await lethe(fixture, "run", try fixture.definitionFile()).code == 0)
      try await fixture.database.withConnection { connection in
        try await connection.runScript(
          """
          CREATE TEMP TABLE planned (number int, exported int, created int, freed int);
          INSERT INTO planned VALUES (1, 0, 10, 60), (2, 0, 100, 160), (3, 0, 200, 300), (4, 370, 400, 401);
          SET session_replication_role = replica;
          UPDATE lethe.chunk AS c SET exported_at = 'epoch'::timestamptz + make_interval(secs => p.exported)
          FROM planned AS p WHERE p.number = c.number AND c.dataset = 'posts';
          UPDATE lethe.job AS j SET created_at = 'epoch'::timestamptz + make_interval(secs => p.created),
            completed_at = 'epoch'::timestamptz + make_interval(secs => p.freed)
          FROM planned AS p, lethe.chunk AS c
          WHERE p.number = c.number AND c.dataset = 'posts' AND c.chunk_id = j.chunk_id;
          """)
        let ledger = RunLedger(connection: connection)
        let totals = try await ledger.slotTotals(of: ledger.run(1))
        let posts = try #require(totals.first { $0.type == .tweets })
        #expect(posts.jobs == 4)
        #expect(posts.busySeconds == 50 + 60 + 100 + 1)
        #expect(posts.idleSeconds == 40 + 40 + 30)
      }
    }
  }

  @Test func noSecretIsWrittenAnywhere() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let result = try await lethe(
        fixture, "run", try fixture.definitionFile(), "--log-level", "debug", "--log-format", "json"
      )
      #expect(result.code == 0)
      for text in [result.stdout, result.stderr] {
        #expect(!text.contains(PipelineFixture.token))
        #expect(!text.contains("token="))
        #expect(!text.contains(fixture.database.url))
      }
      let ledger = try await fixture.value(
        """
        SELECT string_agg(t::text, ' ') FROM (
          SELECT r::text FROM lethe.run AS r UNION ALL SELECT c::text FROM lethe.chunk AS c
          UNION ALL SELECT j::text FROM lethe.job AS j) AS t
        """, as: String.self)
      #expect(!ledger.contains(PipelineFixture.token))
      #expect(!ledger.contains("http"))
      #expect(!ledger.contains(fixture.database.url))
    }
  }

  @Test func aSecondProcessReportsThatTheFirstWorksOnThePipeline() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      fixture.gate.hold { if case .processing = $0 { true } else { false } }
      let file = try fixture.definitionFile()
      let first = try Program("lethe", ["run", file], environment: fixture.environment)
      try await fixture.gate.reached { if case .processing = $0 { true } else { false } }
      let second = try await lethe(fixture, "run", file)
      #expect(second.code == 6)
      let holder = "lethe run (process \(first.processIdentifier) on "
      #expect(second.stderr.contains(holder), "\(second.stderr)")
      #expect(second.stderr.contains(") is working on the pipeline night"), "\(second.stderr)")
      fixture.gate.release()
      #expect(await first.ended().code == 0)
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  /// The package of both programs has one version. An operator who reports a bug can read it from either program.
  @Test func bothProgramsHaveTheSameVersion() async throws {
    let result = try await Program.run("lethe", ["--version"])
    #expect(result.code == 0)
    #expect(result.stdout.wholeMatch(of: /[0-9]+\.[0-9]+\.[0-9]+\n/) != nil)
    let server = try await Program.run("compliance-server", ["--version"])
    #expect(server.code == 0)
    #expect(server.stdout == result.stdout)
  }

  @Test func theExitCodeShowsTheOutcome() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let file = try fixture.definitionFile()
      #expect(try await lethe(fixture, "apply", file, "--skip-if-idle").code == 99)
      #expect(try await lethe(fixture, "run", file, "--no-such-flag").code == 2)
      #expect(try await lethe(fixture, "run", "no-such-file.yaml").code == 2)
      #expect(try await lethe(fixture, "--help").code == 0)
      #expect(try await lethe(fixture, "check", file).code == 0)

      let misspelt = try fixture.definitionFile {
        $0.editing("warehouse.users", to: "warehouse.user")
      }
      let line =
        try #require(
          PipelineFixture.definition.split(separator: "\n").firstIndex {
            $0.hasSuffix("table: warehouse.users")
          }
        ) + 1
      let refused = try await lethe(fixture, "run", misspelt)
      #expect(refused.code == 2)
      #expect(
        refused.stderr.contains("night.yaml:\(line): there is no table warehouse.user"),
        "\(refused.stderr)")
      #expect(refused.stderr.contains("remedy:"))

      let tight = try fixture.definitionFile {
        $0.editing("max_redacted_percent: 60", to: "max_redacted_percent: 1")
      }
      let stopped = try await lethe(fixture, "run", tight)
      #expect(stopped.code == 3)
      #expect(stopped.stdout.contains("--approve"))
    }
  }

  @Test(arguments: [("complete", 4), ("failed", 5)] as [(String, Int32)])
  func quarantinedLinesAndAFailedJobAreReported(status: String, code: Int32) async throws {
    let line = #"{"id":"1","action":"delete","reason":"withheld"}"# + "\n"
    let script = ScriptedAPI.Script(result: { _ in line }, status: status, error: "no space")
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at) VALUES (1, 1, 'text', now())
        """
      )
      let file = try fixture.definitionFile { CollectTests.postsOnly($0) }
      try await ScriptedAPI(script).serving { url in
        let environment = fixture.environment.merging(["COMPLIANCE_API_URL": url]) { $1 }
        let result = try await Program.run("lethe", ["run", file], environment: environment)
        #expect(result.code == code, "\(result.stderr)")
        #expect(result.stdout.contains(code == 4 ? "1 lines were not applied" : "no space"))
        guard code != 4 else { return }
        // Each failed attempt is one line that says what happens next. lethe status says the same of the last one.
        let failures = result.stderr.split(separator: "\n").filter { $0.contains(" failed: job ") }
        #expect(failures.count == 3)
        #expect(failures.allSatisfy { $0.contains("chunk 1 (posts #1)") })
        #expect(
          failures.dropLast().allSatisfy {
            $0.contains(/job [0-9]+ .*; the chunk gets another job \(run 1\)$/)
          })
        let next = "the next lethe run asks about its IDs again"
        #expect(failures.last?.contains("the chunk is set aside; \(next) (run 1)") == true)
        let shown = try await Program.run("lethe", ["status"], environment: environment)
        #expect(shown.stdout.contains("remedy: \(next)"), "\(shown.stdout)")
      }
    }
  }

  @Test func aRefusedRunCanBeGivenUp() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      try await fixture.execute(
        "ALTER TABLE warehouse.posts ADD CONSTRAINT open CHECK (visibility <> 'protected')")
      let file = try fixture.definitionFile()
      let refused = try await lethe(fixture, "run", file)
      #expect(refused.code == 5)
      // The operator drops the wrong constraint.
      try await fixture.execute("ALTER TABLE warehouse.posts DROP CONSTRAINT open")
      // The old run is unfinished again. A new process could finish it, but `--give-up` starts a new run instead.
      try await fixture.execute("UPDATE lethe.run SET status = 'running', finished_at = NULL")
      let second = try await lethe(fixture, "run", file, "--give-up", "--output", "json")
      #expect(second.code == 0, "\(second.stderr)")
      #expect(second.json["run_id"] as? Int == 2)
      #expect((second.json["finished_earlier"] as? [Any])?.isEmpty == true)
      #expect(try await fixture.rowsThatDiffer() == 0)
      let left = try await fixture.value(
        """
        SELECT (SELECT count(*) FROM lethe.run WHERE finished_at IS NULL)
             + (SELECT count(*) FROM lethe.collected)
             + (SELECT count(*) FROM lethe.job WHERE ended_at IS NULL)
        """, as: Int.self)
      #expect(left == 0)
    }
  }

  @Test func aRunWithoutAProcessIsUnfinished() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 50)
      let file = try fixture.definitionFile()
      #expect(try await lethe(fixture, "export", file).code == 0)
      func state() async throws -> (text: String, isInProgress: Bool?) {
        let runs = try await lethe(fixture, "status", "--output", "json").json["runs"]
        let run = try #require((runs as? [[String: Any]])?.first)
        #expect(run["status"] as? String == "running")
        return (try await lethe(fixture, "status").stdout, run["in_progress"] as? Bool)
      }
      let left = try await state()
      #expect(left.isInProgress == false && left.text.contains("no process works on"), "\(left)")
      try await fixture.withOtherWorker {
        let busy = try await state()
        #expect(busy.isInProgress == true && !busy.text.contains("unfinished"), "\(busy)")
      }
    }
  }

  @Test func aStageWithWorkThatMustWaitIsNotIdle() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500)
      let file = try fixture.definitionFile()
      _ = try await lethe(fixture, "export", file)
      #expect(try await lethe(fixture, "submit", file, "--skip-if-idle").code == 0)
      #expect(try await lethe(fixture, "submit", file, "--skip-if-idle").code == 0)
      #expect(try await lethe(fixture, "run", file, "--resume-only", "--skip-if-idle").code == 0)
      #expect(try await lethe(fixture, "submit", file, "--skip-if-idle").code == 99)
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func aWrongTokenHasExitCode77AndAnUnreachableServerHas75() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let file = try fixture.definitionFile()
      var environment = fixture.environment
      environment["X_BEARER_TOKEN"] = "wrong"
      let refused = try await Program.run("lethe", ["run", file], environment: environment)
      #expect(refused.code == 77, "\(refused.stderr)")
      environment = fixture.environment
      environment["DATABASE_URL"] = "host=/nonexistent dbname=x password=hunter2"
      let unreachable = try await Program.run("lethe", ["run", file], environment: environment)
      #expect(unreachable.code == 75, "\(unreachable.stderr)")
      #expect(!unreachable.stderr.contains("hunter2"))
    }
  }

  /// An error that a retry cannot fix is not reported as temporary, even if a name in its message suggests a
  /// temporary error.
  @Test(arguments: [
    ("sslmode=nonsense", 2), ("service=nothing", 2), ("ssl_min_protocol_version=TLSv9", 2),
    ("options='-c statement_timeout=soon'", 2), ("options='-c no_such_parameter=1'", 2),
    ("dbname=certificate_of_nobody", 1), ("host=/nonexistent/certificate", 75),
    ("host=certificates.invalid", 75),
  ])
  func theExitCodeOfAFailedConnectionDependsOnTheCause(option: String, code: Int32) async throws {
    try await PipelineFixture.with { fixture in
      let server = try #require(ProcessInfo.processInfo.environment["PGHOST"])
      let own = option.contains("host=") ? "" : "host=\(server) "
      let result = try await Program.run(
        "lethe", ["status", "--database", "\(own)\(option)"], environment: fixture.environment)
      #expect(result.code == code, "\(result.stderr)")
      #expect(result.stderr.contains("check the connection string"), "\(result.stderr)")
    }
  }

  @Test func aDatabaseWithoutALedgerIsReportedWithARemedy() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute("DROP SCHEMA lethe CASCADE; TRUNCATE schema_migrations")
      let file = try fixture.definitionFile()
      let run = try await lethe(fixture, "run", file)
      #expect(run.code == 2)
      #expect(run.stderr.contains("lethe migrate up"))
      #expect(try await lethe(fixture, "status").stderr.contains("lethe migrate up"))
      let migrations = repositoryRootPath + "/migrations"
      let up = try await lethe(fixture, "migrate", "up", "--migrations-dir", migrations)
      #expect(up.code == 0)
      #expect(up.stdout.contains("applied 20261123090000 ledger"))
      let status = try await lethe(
        fixture, "migrate", "status", "--migrations-dir", migrations, "--output", "json")
      let versions = try FileManager.default.contentsOfDirectory(atPath: migrations)
        .filter { $0.hasSuffix(".sql") }.map { String($0.prefix(14)) }.sorted()
      #expect(versions.starts(with: ["20261123090000", "20261124200000"]))
      #expect(status.json["applied"] as? [String] == versions)
      #expect(try await lethe(fixture, "run", file).code == 0)
      let runs = try await lethe(fixture, "status", "--output", "json")
      #expect((runs.json["runs"] as? [[String: Any]])?.first?["status"] as? String == "done")
    }
  }

  @Test func jobsAreListedAndShown() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let file = try fixture.definitionFile()
      _ = try await lethe(fixture, "export", file)
      _ = try await lethe(fixture, "submit", file)
      let list = try await lethe(fixture, "jobs", "list", file, "--output", "json")
      let jobs = try #require(list.json["jobs"] as? [[String: Any]])
      #expect(jobs.count == 2)
      let id = try #require(jobs.first?["id"] as? String)
      #expect(try await lethe(fixture, "jobs", "show", file, id).stdout.contains("lethe-"))
      #expect(try await lethe(fixture, "jobs", "show", file, "12x").code == 2)
      #expect(try await lethe(fixture, "jobs", "show", file, "1").code == 1)
      #expect(try await lethe(fixture, "run", file, "--resume-only").code == 0)
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  /// The chunk of the cancelled job gets another job, and the run ends as usual.
  @Test func aJobThatHasNotFinishedIsCancelled() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let file = try fixture.definitionFile()
      #expect(try await lethe(fixture, "export", file).code == 0)
      fixture.gate.hold { Place.jobIsNotProcessed.isReached(by: $0) }
      #expect(try await lethe(fixture, "submit", file).code == 0)
      let id = try await fixture.value(
        "SELECT api_id FROM lethe.job JOIN lethe.chunk USING (chunk_id) WHERE type = 'tweets'",
        as: String.self)
      #expect(try await lethe(fixture, "jobs", "cancel", file, "12x").code == 2)
      #expect(try await lethe(fixture, "jobs", "cancel", file, "1").code == 1)
      let cancelled = try await lethe(fixture, "jobs", "cancel", file, id, "--output", "json")
      #expect(cancelled.code == 0, "\(cancelled.stderr)")
      let jobs = try #require(cancelled.json["jobs"] as? [[String: Any]])
      #expect(jobs.map { $0["id"] as? String } == [id])
      #expect(jobs.first?["status"] as? String == "failed", "\(cancelled.stdout)")
      fixture.gate.release()
      #expect(try await lethe(fixture, "run", file, "--resume-only").code == 0)
      let attempts = try await fixture.value(
        """
        SELECT count(*) FROM lethe.job JOIN lethe.chunk USING (chunk_id)
        WHERE type = 'tweets' AND api_id <> \(id)
        """, as: Int.self)
      #expect(attempts == 1)
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }
}
