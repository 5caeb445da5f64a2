import ComplianceService
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// A place in a run where a test interrupts the process. Each place is in the middle of an important step.
enum Place: String, CaseIterable, CustomTestStringConvertible {
  // A trigger on the ledger holds the process inside the transaction that records the step.
  case secondChunkIsBeingRecorded
  case jobIntentIsNotCommitted
  case jobIsCreatedButNotRecorded
  case uploadIsNotRecorded
  case completionIsNotRecorded
  case eventsAreBeingCollected
  case firstBatchIsNotCommitted
  case secondBatchIsNotCommitted
  case chunkIsNotRecordedAsApplied
  case runIsNotRecordedAsDone
  // The service holds the process's request, or the processing of its job.
  case creationHasNoResponse
  case uploadHasNoResponse
  case jobIsNotProcessed
  case resultIsNotDownloaded

  var testDescription: String { rawValue }

  /// The trigger that holds the process at this place. Nil if the service holds the process.
  var trigger: String? {
    switch self {
    case .secondChunkIsBeingRecorded:
      "INSERT ON lethe.chunk FOR EACH ROW WHEN (NEW.number = 2)"
    case .jobIntentIsNotCommitted: "INSERT ON lethe.job FOR EACH ROW"
    case .jobIsCreatedButNotRecorded:
      "UPDATE ON lethe.job FOR EACH ROW WHEN (OLD.api_id IS NULL AND NEW.api_id IS NOT NULL)"
    case .uploadIsNotRecorded: Self.chunk("NEW.state = 'uploaded' AND OLD.state = 'created'")
    case .completionIsNotRecorded: Self.chunk("NEW.state = 'complete' AND OLD.state = 'uploaded'")
    case .eventsAreBeingCollected:
      Self.chunk("NEW.state = 'collected' AND OLD.state = 'complete'")
    case .firstBatchIsNotCommitted:
      Self.chunk("NEW.applied_through > OLD.applied_through AND OLD.applied_through < OLD.first_id")
    case .secondBatchIsNotCommitted:
      Self.chunk(
        """
        NEW.applied_through > OLD.applied_through AND OLD.applied_through >= OLD.first_id
        AND NEW.state = 'collected'
        """)
    case .chunkIsNotRecordedAsApplied:
      Self.chunk("NEW.state = 'applied' AND OLD.state = 'collected'")
    case .runIsNotRecordedAsDone: "UPDATE ON lethe.run FOR EACH ROW WHEN (NEW.status = 'done')"
    case .creationHasNoResponse, .uploadHasNoResponse, .jobIsNotProcessed, .resultIsNotDownloaded:
      nil
    }
  }

  private static func chunk(_ condition: String) -> String {
    "UPDATE ON lethe.chunk FOR EACH ROW WHEN (\(condition))"
  }

  func isReached(by point: ServicePoint) -> Bool {
    switch (self, point) {
    case (.creationHasNoResponse, .createCommitted), (.uploadHasNoResponse, .uploadReceived),
      (.jobIsNotProcessed, .processing), (.resultIsNotDownloaded, .downloadRequested):
      true
    default: false
    }
  }
}

@Suite struct InterruptionTests {
  /// After SIGTERM, the process must end with the exit code that means "run again". After SIGKILL, the process cannot
  /// do anything.
  static let signals: [Int32] = [SIGTERM, SIGKILL]

  @Test(arguments: sampled(Place.allCases, signals, 7))
  func aRunThatIsEndedAtAnyPlaceHasTheSameResult(place: Place, signal: Int32) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      try await fixture.end(at: place, by: signal)
      try await fixture.finishAndVerify()
    }
  }

  private static let pairs = Array(
    zip(Place.allCases, Place.allCases.dropFirst(3) + Place.allCases.prefix(3)))

  /// The second signal ends the resumed run.
  @Test(arguments: sampled(pairs, 4))
  func aRunThatIsKilledTwiceHasTheSameResult(first: Place, second: Place) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      try await fixture.end(at: first, by: SIGKILL)
      try await fixture.end(at: second, by: SIGKILL)
      try await fixture.finishAndVerify()
    }
  }
}

extension PipelineFixture {
  static let heldLock = 4711

  /// Starts `lethe run`, sends the signal to the process when it reaches the place, and removes the trigger.
  /// A resumed run might already be past the place. Such a run gets no signal and must succeed.
  func end(at place: Place, by signal: Int32) async throws {
    try await database.withConnection { connection in
      if let trigger = place.trigger { try await hold(trigger, connection) }
      gate.hold { place.isReached(by: $0) }
      let passed = gate.history.count { place.isReached(by: $0) }
      let isFirst = try await connection.query("SELECT NOT EXISTS (SELECT FROM lethe.run)")
        .onlyRow(as: Bool.self)
      let program = try Program(
        "lethe", ["run", try definitionFile()] + (isFirst ? [] : ["--resume-only"]),
        environment: environment)
      let isReached = try await wait(connection, for: program) {
        if place.trigger == nil {
          return gate.history.count { place.isReached(by: $0) } > passed
        }
        return try await isHeld(connection)
      }
      if isReached { program.send(signal: signal) }
      let result = await program.ended()
      if isReached {
        #expect(result.code == (signal == SIGTERM ? 75 : signal), "\(place): \(result.stderr)")
      } else {
        #expect(result.code == 0, "\(place): \(result.stderr)")
      }
      gate.release()
      if place.trigger != nil { try await release(connection) }
    }
  }

  /// Creates a trigger that waits for an advisory lock. `connection` takes this lock, so the process waits at the
  /// trigger.
  func hold(_ trigger: String, _ connection: Connection) async throws {
    try await connection.runScript(
      """
      CREATE SCHEMA IF NOT EXISTS hold;
      CREATE OR REPLACE FUNCTION hold.here() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(\(literal: Self.heldLock)); RETURN NEW; END';
      CREATE TRIGGER hold BEFORE \(trusted: trigger) EXECUTE FUNCTION hold.here();
      SELECT pg_advisory_lock(\(literal: Self.heldLock));
      """)
  }

  func isHeld(_ connection: Connection) async throws -> Bool {
    try await held(connection) > 0
  }

  /// - Returns: the number of sessions that wait at the trigger.
  func held(_ connection: Connection) async throws -> Int {
    try await connection.query(
      """
      SELECT count(*) FROM pg_locks
      WHERE locktype = 'advisory' AND objid = \(literal: Self.heldLock) AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      """
    ).onlyRow(as: Int.self)
  }

  /// Releases held processes and removes the trigger. The removal locks the trigger's table, so it waits until the
  /// session of a killed process has ended.
  func release(_ connection: Connection) async throws {
    try await connection.runScript(
      "SELECT pg_advisory_unlock(\(literal: Self.heldLock)); DROP SCHEMA hold CASCADE;")
  }

  /// Waits until the condition is true or the program has ended.
  /// - Returns: false if the program ended before the condition was true.
  func wait(
    _ connection: Connection, for program: Program, _ condition: () async throws -> Bool
  ) async throws -> Bool {
    let hasEnded = Flag()
    // It is not cancelled, because that would kill the program.
    Task {
      _ = await program.ended()
      hasEnded.set()
    }
    while !hasEnded.isSet {
      if try await condition() { return true }
      try await pollingPause()
    }
    return false
  }

  /// Resumes the run, and expects that the warehouse matches the platform and that no job and no file is left over.
  /// - Parameter undoesCreations: whether a process can create a job after it has lost its lease. It then cancels this
  ///   job, so the API has more jobs than the ledger has chunks.
  func finishAndVerify(undoesCreations: Bool = false) async throws {
    let result = try await Program.run(
      "lethe", ["run", try definitionFile(), "--resume-only", "--output", "json"],
      environment: environment)
    #expect(result.code == 0, "\(result.stderr)")
    #expect(try await rowsThatDiffer() == 0)
    #expect(try await ledgerFaults() == [])
    // The API has one job for each chunk, so no job was created twice.
    let (jobs, chunks) = try await database.withConnection {
      try await $0.query(
        """
        SELECT (SELECT count(*) FROM compliance.jobs WHERE status <> 'failed' OR NOT \(undoesCreations)),
               (SELECT count(*) FROM lethe.chunk)
        """
      ).onlyRow(as: Int.self, Int.self)
    }
    let names = try await value(
      "SELECT string_agg(name || ' ' || status, ', ' ORDER BY name) FROM compliance.jobs",
      as: String.self)
    #expect(jobs == chunks, "\(names)")
    let remaining = try FileManager.default.subpathsOfDirectory(atPath: workDirectory)
    #expect(remaining.isEmpty, "\(remaining)")
  }
}
