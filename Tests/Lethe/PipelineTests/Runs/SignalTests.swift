import ComplianceService
import Foundation
import PostgreSQL
import SQLText
import TestSupport
import Testing

/// Tests of signals in every command that works for a longer time. What holds the command is never released before the
/// command has ended, so a command that waits for it would hang.
@Suite(.endedIfItHangs) struct SignalTests {
  /// What holds a command.
  enum Hold: Sendable {
    /// Another session has locked this table.
    case table(SQL)
    /// The service does not respond.
    case service(@Sendable (ServicePoint) -> Bool)
    /// The service responds, but the command waits.
    case wait(@Sendable (ServicePoint) -> Bool)
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let command: [String]
    /// The commands before it.
    var before: [String] = []
    let hold: Hold
    var testDescription: String { "\(command.joined(separator: " ")) \(hold)" }
  }

  /// `@` stands for the definition's file.
  static let cases: [Case] = [
    Case(command: ["export", "@"], hold: .table("warehouse.posts")),
    Case(command: ["export", "@"], hold: .table("lethe.chunk")),
    Case(command: ["submit", "@"], before: ["export"], hold: .table("lethe.job")),
    Case(
      command: ["submit", "@"], before: ["export"],
      hold: .service { if case .createCommitted = $0 { true } else { false } }),
    Case(
      command: ["submit", "@"], before: ["export"],
      hold: .service { if case .uploadReceived = $0 { true } else { false } }),
    Case(
      command: ["await", "@"], before: ["export", "submit"],
      hold: .wait { if case .processing = $0 { true } else { false } }),
    Case(command: ["await", "@"], before: ["export", "submit"], hold: .table("lethe.job")),
    Case(
      command: ["collect", "@"], before: ["export", "submit", "await"],
      hold: .service { if case .downloadRequested = $0 { true } else { false } }),
    Case(
      command: ["collect", "@"], before: ["export", "submit", "await"],
      hold: .table("lethe.collected")),
    Case(
      command: ["apply", "@"], before: ["export", "submit", "await", "collect"],
      hold: .table("warehouse.posts")),
    Case(command: ["plan", "@"], hold: .table("warehouse.posts")),
    Case(command: ["check", "@"], hold: .table("warehouse.posts")),
    Case(command: ["run", "@"], hold: .table("lethe.lease")),
    Case(command: ["retry", "@", "1"], hold: .table("lethe.chunk")),
    Case(command: ["status"], hold: .table("lethe.run")),
    Case(command: ["migrate", "up"], hold: .table("public.schema_migrations")),
    Case(command: ["migrate", "status"], hold: .table("public.schema_migrations")),
    Case(command: ["audit", "verify"], hold: .table("lethe.seal")),
    Case(
      command: ["audit", "export", "--from", "2020-01-01", "--to", "2040-01-01"],
      hold: .table("lethe.event")),
    Case(
      command: ["guard", "install", "warehouse.posts", "--type", "tweets"],
      hold: .table("warehouse.posts")),
    Case(command: ["holds", "list"], hold: .table("lethe.hold")),
    Case(command: ["quarantine", "list"], hold: .table("lethe.quarantine")),
  ]

  @Test(arguments: sampled(cases, [SIGTERM, SIGINT, SIGHUP], 12))
  func aCommandEndsAfterASignal(one: Case, signal: Int32) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 800, users: 40)
      let file = try fixture.definitionFile()
      if case .wait(let condition) = one.hold { fixture.gate.hold(condition) }
      for stage in one.before {
        let result = try await Program.run(
          "lethe", [stage, file], environment: fixture.environment)
        #expect(result.code == 0, "\(result.stderr)")
      }
      let result = try await fixture.held(by: one.hold) { isHeld in
        let program = try Program(
          "lethe", one.command.map { $0 == "@" ? file : $0 }, environment: fixture.environment)
        try await fixture.database.withConnection { connection in
          let isReached = try await fixture.wait(connection, for: program) {
            try await isHeld(connection)
          }
          #expect(isReached)
        }
        program.send(signal: signal)
        return await program.ended()
      }
      #expect(result.code == 75, "\(result.stderr)")
      // Otherwise, the process was ended because it took too long.
      #expect(result.stderr.contains("ended by SIG"), "\(result.stderr)")
      try await fixture.finish(file)
    }
  }

  /// What the command waits for after a response of the API.
  enum Wait: String, CaseIterable, Sendable {
    case rateLimit, backoff, slot, hostOfResult

    func response(to call: ScriptedAPI.Call) -> ScriptedAPI.ScriptedResponse? {
      switch (self, call.kind) {
      case (.rateLimit, .create):
        .init(status: 429, headers: ["Retry-After": "800"])
      case (.backoff, .create), (.hostOfResult, .download):
        .init(status: 503, headers: ["Retry-After": "800"])
      case (.slot, .create): .init(status: 409)
      default: nil
      }
    }
  }

  @Test(arguments: Wait.allCases)
  func aWaitEndsAfterASignal(wait: Wait) async throws {
    let hasWaited = Flag()
    let isOver = Flag()
    try await RefusalFixture.with(configure: {
      $0.intercept = { call in
        guard !isOver.isSet, let response = wait.response(to: call) else { return nil }
        hasWaited.set()
        return response
      }
    }) { fixture in
      let file = try fixture.file(ids: 100)
      let program = try Program(
        "lethe", ["run", file],
        environment: fixture.base.environment.merging(["COMPLIANCE_API_URL": fixture.url]) { $1 })
      try await fixture.base.database.withConnection { connection in
        let isWaiting = try await fixture.base.wait(connection, for: program) { hasWaited.isSet }
        #expect(isWaiting)
      }
      program.send(signal: SIGTERM)
      let result = await program.ended()
      #expect(result.code == 75, "\(result.stderr)")
      #expect(result.stderr.contains("ended by SIGTERM"), "\(result.stderr)")
      isOver.set()
      let next = try await fixture.lethe("run", file, "--resume-only")
      #expect(next.code == 0, "\(next.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }

  @Test(arguments: [SIGTERM, SIGINT, SIGHUP])
  func aSecondSignalLosesNothing(second: Int32) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 800, users: 40)
      let file = try fixture.definitionFile()
      let result = try await fixture.held(by: .table("warehouse.posts")) { isHeld in
        let program = try Program("lethe", ["run", file], environment: fixture.environment)
        try await fixture.database.withConnection { connection in
          _ = try await fixture.wait(connection, for: program) { try await isHeld(connection) }
        }
        program.send(signal: SIGTERM)
        program.send(signal: second)
        return await program.ended()
      }
      #expect(result.code == 75, "\(result.stderr)")
      // The same signal again is taken for a repetition, and another one ends the process at once.
      #expect(result.stderr.contains("ended by SIG") == (second == SIGTERM), "\(result.stderr)")
      try await fixture.finish(file)
    }
  }

  /// A program that nobody can read from blocks in each write to stderr.
  @Test(arguments: [1, 2])
  func aProgramThatCannotWriteItsLogEnds(signals: Int) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 800, users: 40)
      let file = try fixture.definitionFile()
      let pipe = fixture.directory + "/pipe"
      try #require(mkfifo(pipe, 0o600) == 0)
      let end = open(pipe, O_RDWR | O_NONBLOCK)
      defer { close(end) }
      while write(end, "x", 1) == 1 {}
      let program = try Program(
        "lethe", ["run", file], environment: fixture.environment.merging(["LOG": pipe]) { $1 },
        launcher: ["/bin/bash", "-c", #"exec "$0" "$@" 2>"$LOG""#])
      // The process has a run before it writes its first line.
      try await fixture.database.withConnection { connection in
        let hasBegun = try await fixture.wait(connection, for: program) {
          try await connection.query("SELECT EXISTS (SELECT FROM lethe.run)")
            .onlyRow(as: Bool.self)
        }
        #expect(hasBegun)
      }
      for _ in 1...signals { program.send(signal: SIGTERM) }
      #expect(await program.ended().code == 75)
      try await fixture.finish(file)
    }
  }

  @Test func aRunContinuesWithoutAReaderOfItsLog() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 800, users: 40)
      let file = try fixture.definitionFile()
      let result = try await Program.run(
        "lethe", ["run", file], environment: fixture.environment,
        launcher: ["/bin/bash", "-c", #"set -o pipefail; "$0" "$@" 2>&1 | head -n 1"#])
      #expect(result.code == 0, "\(result.stdout) \(result.stderr)")
      #expect(result.stdout.split(separator: "\n").count == 1)
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func aRunThatIsStartedWithNohupContinuesAfterSIGHUP() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 800, users: 40)
      let file = try fixture.definitionFile()
      let program = try await fixture.held(by: .table("warehouse.posts")) { isHeld in
        let program = try Program(
          "lethe", ["run", file], environment: fixture.environment,
          launcher: ["/bin/bash", "-c", #"trap "" HUP; exec "$0" "$@""#])
        try await fixture.database.withConnection { connection in
          _ = try await fixture.wait(connection, for: program) { try await isHeld(connection) }
        }
        program.send(signal: SIGHUP)
        return program
      }
      let result = await program.ended()
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func aResultThatCannotBeWrittenIsAnError() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 800, users: 40)
      let file = try fixture.definitionFile()
      let result = try await Program.run(
        "lethe", ["run", file], environment: fixture.environment,
        launcher: ["/bin/bash", "-c", #"exec "$0" "$@" >/dev/full"#])
      #expect(result.code == 1)
      #expect(result.stderr.contains("No space left"), "\(result.stderr)")
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }
}

extension PipelineFixture {
  /// Runs `body` while the hold exists. `body` gets a condition: whether a process waits for it.
  fileprivate func held<R: Sendable>(
    by hold: SignalTests.Hold,
    _ body: (@escaping (Connection) async throws -> Bool) async throws -> R
  ) async throws -> R {
    switch hold {
    case .table(let table):
      return try await database.withConnection { connection in
        try await connection.withTransaction { transaction in
          try await transaction.execute("LOCK TABLE \(table) IN ACCESS EXCLUSIVE MODE")
          return try await body { observer in
            try await observer.query(
              """
              SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
                             WHERE d.datname = current_database() AND NOT l.granted)
              """
            ).onlyRow(as: Bool.self)
          }
        }
      }
    case .service(let condition), .wait(let condition):
      gate.hold(condition)
      defer { gate.release() }
      return try await body { observer in
        guard gate.history.contains(where: condition) else { return false }
        return try await observer.query("SELECT EXISTS (SELECT FROM lethe.worker)")
          .onlyRow(as: Bool.self)
      }
    }
  }

  /// Finishes all runs, or makes the first one.
  fileprivate func finish(_ file: String) async throws {
    let result = try await Program.run("lethe", ["run", file], environment: environment)
    #expect(result.code == 0, "\(result.stderr)")
    #expect(try await rowsThatDiffer() == 0)
    #expect(try await ledgerFaults() == [])
    let left = try FileManager.default.subpathsOfDirectory(atPath: workDirectory)
    #expect(left == [])
  }
}
