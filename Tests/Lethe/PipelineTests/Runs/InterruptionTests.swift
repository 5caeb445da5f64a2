import ComplianceService
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// A place in a run at which the process is ended, each in the middle of something that matters.
enum Place: String, CaseIterable, CustomTestStringConvertible {
  // Held in the ledger, inside the transaction that would record the fact.
  case secondChunkIsBeingRecorded
  case jobIsIntended
  case jobIsCreatedButNotRecorded
  case uploadIsNotRecorded
  case completionIsNotRecorded
  case eventsAreBeingCollected
  case firstBatchIsNotCommitted
  case secondBatchIsNotCommitted
  case chunkIsNotClosed
  case runIsNotClosed
  // Held in the service.
  case creationIsNotAnswered
  case uploadIsNotAnswered
  case jobIsProcessed
  case resultIsDownloaded

  var testDescription: String { rawValue }

  /// The trigger that holds the process there; nil for the service's places.
  var trigger: String? {
    switch self {
    case .secondChunkIsBeingRecorded:
      "INSERT ON lethe.chunk FOR EACH ROW WHEN (NEW.number = 2)"
    case .jobIsIntended: "INSERT ON lethe.job FOR EACH ROW"
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
    case .chunkIsNotClosed: Self.chunk("NEW.state = 'applied' AND OLD.state = 'collected'")
    case .runIsNotClosed: "UPDATE ON lethe.run FOR EACH ROW WHEN (NEW.status = 'done')"
    case .creationIsNotAnswered, .uploadIsNotAnswered, .jobIsProcessed, .resultIsDownloaded: nil
    }
  }

  private static func chunk(_ condition: String) -> String {
    "UPDATE ON lethe.chunk FOR EACH ROW WHEN (\(condition))"
  }

  func isReached(by point: ServicePoint) -> Bool {
    switch (self, point) {
    case (.creationIsNotAnswered, .createCommitted), (.uploadIsNotAnswered, .uploadReceived),
      (.jobIsProcessed, .processing), (.resultIsDownloaded, .downloadRequested):
      true
    default: false
    }
  }
}

@Suite struct InterruptionTests {
  /// SIGTERM has to end the process by itself, with the code that says "run again"; SIGKILL gives it
  /// no chance to do anything.
  static let signals: [Int32] = [SIGTERM, SIGKILL]

  @Test(arguments: Place.allCases, signals)
  func aRunThatWasEndedAnywhereEndsAsIfItHadNot(place: Place, signal: Int32) async throws {
    try await PipelineFixture.with { night in
      try await night.invent(posts: 1500, users: 40)
      try await night.end(at: place, by: signal)
      try await night.finishAndVerify()
    }
  }

  /// The second night of bad luck hits the resumed run.
  @Test(arguments: zip(Place.allCases, Place.allCases.dropFirst(3) + Place.allCases.prefix(3)))
  func aRunThatWasKilledTwiceEndsAsIfItHadNotBeen(first: Place, second: Place) async throws {
    try await PipelineFixture.with { night in
      try await night.invent(posts: 1500, users: 40)
      try await night.end(at: first, by: SIGKILL)
      try await night.end(at: second, by: SIGKILL)
      try await night.finishAndVerify()
    }
  }
}

extension PipelineFixture {
  private static let heldLock = 4711

  /// Starts `lethe run`, ends it by the signal once it is at the place, and clears the place away.
  /// If the run never comes to the place any more, it ends by itself, which is as good.
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
      let isThere = try await wait(connection, for: program) {
        if place.trigger == nil {
          return gate.history.count { place.isReached(by: $0) } > passed
        }
        return try await isHeld(connection)
      }
      if isThere { program.send(signal: signal) }
      let ending = await program.ended()
      if isThere {
        #expect(ending.code == (signal == SIGTERM ? 75 : signal), "\(place): \(ending.stderr)")
      } else {
        #expect(ending.code == 0, "\(place): \(ending.stderr)")
      }
      gate.release()
      if place.trigger != nil { try await letGo(connection) }
    }
  }

  private func hold(_ trigger: String, _ connection: Connection) async throws {
    try await connection.runScript(
      """
      CREATE SCHEMA IF NOT EXISTS hold;
      CREATE OR REPLACE FUNCTION hold.here() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(\(literal: Self.heldLock)); RETURN NEW; END';
      CREATE TRIGGER hold BEFORE \(trusted: trigger) EXECUTE FUNCTION hold.here();
      SELECT pg_advisory_lock(\(literal: Self.heldLock));
      """)
  }

  private func isHeld(_ connection: Connection) async throws -> Bool {
    try await connection.query(
      """
      SELECT count(*) > 0 FROM pg_locks
      WHERE locktype = 'advisory' AND objid = \(literal: Self.heldLock) AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      """
    ).onlyRow(as: Bool.self)
  }

  /// The trigger's table is locked for this: it waits until a killed process's session is gone.
  private func letGo(_ connection: Connection) async throws {
    try await connection.runScript(
      "SELECT pg_advisory_unlock(\(literal: Self.heldLock)); DROP SCHEMA hold CASCADE;")
  }

  /// - Returns: false if the program ended before the condition came true.
  private func wait(
    _ connection: Connection, for program: Program, _ condition: () async throws -> Bool
  ) async throws -> Bool {
    let hasEnded = Flag()
    let watch = Task {
      _ = await program.ended()
      hasEnded.set()
    }
    defer { watch.cancel() }
    while !hasEnded.isSet {
      if try await condition() { return true }
      await Task.yield()
    }
    return false
  }

  func finishAndVerify() async throws {
    let ending = try await Program.run(
      "lethe", ["run", try definitionFile(), "--resume-only", "--output", "json"],
      environment: environment)
    #expect(ending.code == 0, "\(ending.stderr)")
    #expect(try await rowsThatDiffer() == 0)
    #expect(try await ledgerFaults() == [])
    // No job was made twice, and none was left behind.
    let (jobs, chunks) = try await database.withConnection {
      try await $0.query(
        "SELECT (SELECT count(*) FROM compliance.jobs), (SELECT count(*) FROM lethe.chunk)"
      ).onlyRow(as: Int.self, Int.self)
    }
    #expect(jobs == chunks)
    let remaining = try FileManager.default.subpathsOfDirectory(atPath: workDirectory)
    #expect(remaining.isEmpty, "\(remaining)")
  }
}
