import ComplianceAPI
import ComplianceService
import Foundation
import PostgreSQL
import TestSupport
import Testing
import Vocabulary

/// Tests of what another process does while a process is paused, and of what a process does when its sessions are
/// terminated.
@Suite struct LeaseTests {
  /// The process is stopped, as if its machine were suspended, and continues after another process has finished its
  /// work. A process that is stopped within a transaction keeps its row locks until its session is terminated.
  @Test(arguments: sampled(Place.allCases, 5))
  func aPausedProcessLosesItsWorkToAnotherProcess(place: Place) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      try await fixture.database.withConnection { connection in
        let paused = try await fixture.start(until: place, connection)
        paused.send(signal: SIGSTOP)
        // Until its lease expires, no other process can take over.
        let refused = try await fixture.resume()
        #expect(refused.code == 6, "\(refused.stderr)")
        #expect(refused.stderr.contains("(process \(paused.processIdentifier) on "))
        try await fixture.expireLeases()
        try await fixture.release(place, connection)
        let second = try await fixture.resume()
        #expect(second.code == 0, "\(second.stderr)")
        paused.send(signal: SIGCONT)
        let result = await paused.ended()
        #expect(result.code == 6, "\(result.stderr)")
        if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
      }
      try await fixture.finishAndVerify(undoesCreations: true)
    }
  }

  @Test(arguments: sampled(Place.allCases, 5))
  func aRunContinuesAfterItsSessionsAreTerminated(place: Place) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      try await fixture.database.withConnection { connection in
        let program = try await fixture.start(until: place, connection)
        #expect(try await fixture.terminateSessions(connection) > 0)
        try await fixture.release(place, connection)
        let result = await program.ended()
        // The end of a run is not repeated, because it might have been recorded.
        let isEnd = place == .runIsNotRecordedAsDone
        #expect(result.code == (isEnd ? 75 : 0), "\(result.stderr)")
        if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
      }
      try await fixture.finishAndVerify()
    }
  }

  /// Each stage command after export finishes its chunk, too.
  @Test(arguments: [
    ("submit", Place.jobIsCreatedButNotRecorded), ("submit", .uploadIsNotRecorded),
    ("await", .completionIsNotRecorded), ("collect", .eventsAreBeingCollected),
    ("collect", .resultIsNotDownloaded), ("apply", .firstBatchIsNotCommitted),
    ("apply", .chunkIsNotRecordedAsApplied),
  ])
  func aStageCommandContinuesAfterItsSessionsAreTerminated(
    command: String, place: Place
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 100)
      let file = try fixture.definitionFile()
      let commands = ["export", "submit", "await", "collect", "apply"]
      for earlier in commands.prefix(while: { $0 != command }) {
        #expect(try await fixture.lethe(earlier, file).code == 0)
      }
      try await fixture.database.withConnection { connection in
        let program = try await fixture.start([command, file], until: place, connection)
        #expect(try await fixture.terminateSessions(connection) > 0)
        try await fixture.release(place, connection)
        let result = await program.ended()
        #expect(result.code == 0, "\(result.stderr)")
        if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
      }
      try await fixture.finishAndVerify()
    }
  }

  /// The lease of a killed process on the same machine does not have to expire.
  @Test func aKilledProcessFreesItsPipelineAtOnce() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 200)
      try await fixture.database.withConnection { connection in
        let killed = try await fixture.start(until: .firstBatchIsNotCommitted, connection)
        killed.send(signal: SIGKILL)
        _ = await killed.ended()
        try await fixture.release(.firstBatchIsNotCommitted, connection)
        let next = try await fixture.resume()
        #expect(next.code == 0, "\(next.stderr)")
        #expect(
          next.stderr.contains("(process \(killed.processIdentifier) on "), "\(next.stderr)")
        try await connection.execute("DROP SCHEMA hold CASCADE")
        #expect(
          try await connection.query("SELECT count(*) FROM lethe.worker").onlyRow(as: Int.self) == 0
        )
      }
      try await fixture.finishAndVerify()
    }
  }

  /// A job that a process created after it had lost its lease is in the slot, and no attempt uses it.
  @Test func aJobThatNoChunkUsesIsCancelled() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 100)
      let file = try fixture.definitionFile()
      #expect(try await fixture.lethe("run", file).code == 0)
      let name = try await fixture.value(
        "SELECT name FROM lethe.job JOIN lethe.chunk USING (chunk_id) WHERE type = 'tweets' LIMIT 1",
        as: String.self)
      let orphan = try await ComplianceClient.withClient(
        baseURL: fixture.service, token: BearerToken(PipelineFixture.token), allowedHosts: [],
        logger: PipelineFixture.logger
      ) { try await $0.createJob(type: .tweets, name: name).id }
      let result = try await fixture.lethe("run", file)
      #expect(result.code == 0, "\(result.stderr)")
      #expect(result.stderr.contains("job \(orphan) (\(name)) held the slot"), "\(result.stderr)")
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }
}

extension PipelineFixture {
  /// Starts a command, and returns when it is at the place.
  /// - Parameter arguments: nil for `lethe run`.
  func start(
    _ arguments: [String]? = nil, until place: Place, _ connection: Connection
  ) async throws -> Program {
    if let trigger = place.trigger { try await hold(trigger, connection) }
    gate.hold { place.isReached(by: $0) }
    let program = try Program(
      "lethe", try arguments ?? ["run", definitionFile()], environment: environment)
    let isReached = try await wait(connection, for: program) {
      place.trigger == nil
        ? gate.history.contains { place.isReached(by: $0) } : try await isHeld(connection)
    }
    #expect(isReached)
    return program
  }

  func release(_ place: Place, _ connection: Connection) async throws {
    gate.release()
    guard place.trigger != nil else { return }
    try await connection.execute("SELECT pg_advisory_unlock(\(literal: Self.heldLock))")
  }

  /// - Returns: the number of sessions of `lethe`.
  func terminateSessions(_ connection: Connection) async throws -> Int {
    try await connection.query(
      """
      SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'lethe' AND pid <> pg_backend_pid()
      """
    ).onlyRow(as: Int.self)
  }

  func expireLeases() async throws {
    try await execute(
      """
      UPDATE lethe.worker
      SET renewed_at = renewed_at - interval '1 day', expires_at = clock_timestamp() - interval '1 second'
      """)
  }

  fileprivate func lethe(_ arguments: String...) async throws -> Program.Result {
    try await Program.run("lethe", arguments, environment: environment)
  }

  func resume() async throws -> Program.Result {
    try await Program.run(
      "lethe", ["run", try definitionFile(), "--resume-only"], environment: environment)
  }
}
