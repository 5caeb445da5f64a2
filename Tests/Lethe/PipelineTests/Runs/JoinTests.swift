import Foundation
import Ledger
import PostgreSQL
import TestSupport
import Testing

/// Several processes that work on one pipeline together.
@Suite(.endedIfItHangs) struct JoinTests {
  private static func manyChunks(_ definition: String) -> String {
    definition.editing("chunk: {ids: 700}", to: "chunk: {ids: 60}")
      .editing("batch: 3\n", to: "chunk: {ids: 7}\n    batch: 3\n")
  }

  /// - Returns: the processes of `count` commands that are started at the same time.
  private static func start(
    _ count: Int, _ fixture: PipelineFixture, _ arguments: [String] = ["--join"]
  ) throws -> [Program] {
    let file = try fixture.definitionFile(manyChunks)
    return try (0..<count).map { _ in
      try Program("lethe", ["run", file] + arguments, environment: fixture.environment)
    }
  }

  @Test(arguments: 1...2)
  func processesThatStartTogetherShareOneRun(round: Int) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      for night in 1...2 {
        let programs = try Self.start(3, fixture)
        for program in programs {
          let result = await program.ended()
          #expect(result.code == 0, "\(result.stderr)")
        }
        #expect(try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == night)
        #expect(
          try await fixture.value("SELECT count(*) FROM lethe.worker", as: Int.self) == 0)
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
      let (jobs, chunks) = try await fixture.database.withConnection {
        try await $0.query(
          "SELECT (SELECT count(*) FROM compliance.jobs), (SELECT count(*) FROM lethe.chunk)"
        ).onlyRow(as: Int.self, Int.self)
      }
      #expect(jobs == chunks && chunks > 40)
    }
  }

  /// The first process is stopped when it reaches the place, and is then killed. The other processes must finish the
  /// work.
  @Test(arguments: sampled(Place.allCases, 5))
  func theOthersFinishTheWorkOfAKilledProcess(place: Place) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      try await fixture.database.withConnection { connection in
        let killed = try await fixture.start(
          ["run", fixture.definitionFile(Self.manyChunks), "--join"], until: place, connection)
        let others = try Self.start(2, fixture)
        // If no work is left, one of them can end before the other one joins.
        let joined = "SELECT count(*) = 3 FROM lethe.worker WHERE team IS NOT NULL" as SQL
        while try await !connection.query(joined).onlyRow(as: Bool.self),
          !others.contains(where: \.hasEnded)
        {
          try await pollingPause()
        }
        killed.send(signal: SIGKILL)
        _ = await killed.ended()
        try await fixture.release(place, connection)
        for program in others {
          let result = await program.ended()
          #expect(result.code == 0, "\(result.stderr)")
        }
        if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
      }
      #expect(try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == 1)
      try await fixture.finishAndVerify()
    }
  }

  @Test func aPlainRunCanBeJoinedButOtherCommandsAreRefused() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 600, users: 40)
      let file = try fixture.definitionFile(Self.manyChunks)
      try await fixture.database.withConnection { connection in
        let place = Place.firstBatchIsNotCommitted
        let first = try await fixture.start(["run", file], until: place, connection)
        for command in [["run", file], ["run", file, "--give-up"], ["export", file]] {
          let refused = try await fixture.lethe(command)
          #expect(refused.code == 6, "\(refused.stderr)")
          #expect(refused.stderr.contains("lethe run (process \(first.processIdentifier) on "))
          #expect(refused.stderr.contains("lethe run --join"), "\(refused.stderr)")
        }
        let helper = try Program(
          "lethe", ["run", file, "--join"], environment: fixture.environment)
        // The helper does all stages before apply. One process at a time changes the warehouse.
        let isWaiting: SQL = """
          SELECT count(*) > 8 AND count(*) FILTER (WHERE state <> 'collected') = 0 FROM lethe.chunk
          """
        while try await !connection.query(isWaiting).onlyRow(as: Bool.self) {
          try await pollingPause()
        }
        // The first process tries its batch again after each lock timeout, and is not held between two tries.
        while try await fixture.held(connection) != 1 { try await pollingPause() }
        try await fixture.expectStatus(of: first, helping: helper)
        // A command that must be alone is refused, although the first process could be joined.
        let refused = try await fixture.lethe("apply", file)
        #expect(refused.code == 6, "\(refused.stderr)")
        try await fixture.release(place, connection)
        for program in [first, helper] {
          let result = await program.ended()
          #expect(result.code == 0, "\(result.stderr)")
        }
        try await connection.execute("DROP SCHEMA hold CASCADE")
      }
      try await fixture.finishAndVerify()
    }
  }

  @Test func aCommandThatWorksAloneCannotBeJoined() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.withOtherWorker {
        let refused = try await fixture.lethe("run", try fixture.definitionFile(), "--join")
        #expect(refused.code == 6, "\(refused.stderr)")
        #expect(!refused.stderr.contains("--join"), "\(refused.stderr)")
      }
    }
  }

  // MARK: Files on other hosts

  /// Chunks whose files are on a host with a running process are left to that process.
  @Test func aChunkIsLeftToTheHostThatHasItsFile() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 600, users: 40)
      let file = try fixture.definitionFile(Self.manyChunks)
      let other = WorkerLedger(lease: Lease(), seconds: 3600)
      #expect(try await fixture.lethe("export", file).code == 0)
      try await fixture.loseFiles()
      try await fixture.database.withConnection { connection in
        try await other.begin("lethe run", PipelineFixture.otherProcess, on: connection)
        let membership = try await other.enter("night", as: .first, on: connection) { _ in false }
        #expect(membership == .started(former: []))
        let helper = try Program(
          "lethe", ["run", file, "--join"], environment: fixture.environment)
        let hasJoined: SQL = "SELECT count(*) = 2 FROM lethe.worker WHERE team IS NOT NULL"
        while try await !connection.query(hasJoined).onlyRow(as: Bool.self) {
          try await pollingPause()
        }
        // The other process ends without having done anything. Then no process has the files any more.
        #expect(
          try await connection.query("SELECT count(*) FROM lethe.job").onlyRow(as: Int.self) == 0)
        try await other.end(on: connection)
        let result = await helper.ended()
        #expect(result.code == 0, "\(result.stderr)")
        #expect(result.stderr.contains("writing it again"), "\(result.stderr)")
      }
      try await fixture.finishAndVerify()
    }
  }

  /// A complete job is of no use without its chunk's file. The new job does not count towards `job_attempts`.
  @Test func aLostHostCostsNoAttempt() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 600, users: 40)
      let file = try fixture.definitionFile {
        Self.manyChunks($0).editing(
          "poll_seconds: 0.02", to: "job_attempts: 1\n  poll_seconds: 0.02")
      }
      for command in ["export", "submit", "await"] {
        #expect(try await fixture.lethe(command, file).code == 0)
      }
      let complete: SQL = "SELECT count(*) FROM lethe.chunk WHERE state = 'complete'"
      #expect(try await fixture.value(complete, as: Int.self) == 2)
      try await fixture.loseFiles()
      let result = try await fixture.lethe("run", file, "--join", "--resume-only")
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(
        try await fixture.value(
          "SELECT count(*) FROM lethe.job WHERE attempt = 2", as: Int.self) == 2)
    }
  }
}

extension PipelineFixture {
  /// Expects that `lethe status` shows both processes, and what the first one works on.
  fileprivate func expectStatus(of first: Program, helping helper: Program) async throws {
    let status = try await lethe("status", "--output", "json")
    let workers = try #require(status.json["workers"] as? [[String: Any]], "\(status.stdout)")
    #expect(
      workers.map { $0["process_id"] as? Int }
        == [Int(first.processIdentifier), Int(helper.processIdentifier)])
    let work = workers.map { $0["work"] as? [String] ?? [] }
    #expect(work[0].count == 1 && work[0][0].contains(/^apply of chunk \d+ of \w+$/), "\(work)")
    #expect(work[1].isEmpty, "\(work)")
    let text = try await lethe("status").stdout
    for program in [first, helper] {
      #expect(text.contains("lethe run (process \(program.processIdentifier) on "), "\(text)")
    }
    #expect(text.contains("works on night: \(work[0][0])\n"), "\(text)")
  }

  fileprivate func lethe(_ arguments: String...) async throws -> Program.Result {
    try await lethe(arguments)
  }

  fileprivate func lethe(_ arguments: [String]) async throws -> Program.Result {
    try await Program.run("lethe", arguments, environment: environment)
  }

  static let otherProcess = ProcessIdentity(
    host: "elsewhere", processID: 812, bootID: "other", pidNamespace: "other", start: 1)

  /// Removes the chunk files and records that they are on another host.
  fileprivate func loseFiles() async throws {
    try await execute("UPDATE lethe.chunk SET file_host = 'elsewhere'")
    try FileManager.default.removeItem(atPath: workDirectory)
  }
}
