import Foundation
import PostgreSQL
import TestSupport
import Testing

/// The warehouse's server is replaced by another one during a run.
@Suite(.endedIfItHangs) struct FailoverTests {
  /// Places in each stage. At the last one, the run's end might have been recorded already.
  static let places: [Place] = [
    .secondChunkIsBeingRecorded, .jobIsCreatedButNotRecorded, .jobIsNotProcessed,
    .eventsAreBeingCollected, .secondBatchIsNotCommitted, .chunkIsNotRecordedAsApplied,
    .runIsNotRecordedAsDone,
  ]

  private static func withServer(
    _ body:
      @escaping @Sendable (PipelineFixture, OwnServer, _ platform: TestDatabase)
      async throws -> Void
  ) async throws {
    try await withOwnServer("wal_sender_timeout = 0") { server in
      try await PipelineFixture.withWarehouse(on: server) { fixture, platform in
        try await body(fixture, server, platform)
      }
    }
  }

  private static func expectEnd(
    _ result: Program.Result, _ place: Place, at location: SourceLocation = #_sourceLocation
  ) {
    let code: Int32 = place == .runIsNotRecordedAsDone ? 75 : 0
    #expect(result.code == code, "\(result.code): \(result.stderr)", sourceLocation: location)
  }

  /// The primary loses its power, and its synchronous standby is promoted. No commit is lost.
  @Test(arguments: sampled(places, 2))
  func aRunContinuesOnThePromotedStandby(place: Place) async throws {
    try await Self.withServer { single, primary, _ in
      try await primary.withStandby(named: "second") { standby in
        try await primary.replicateSynchronously(to: "second")
        let fixture = single.with(primary.withFailover(single.database, to: standby))
        try await fixture.database.withConnection { connection in
          let program = try await fixture.start(until: place, connection)
          try await primary.kill()
          try await standby.promote()
          fixture.gate.release()
          let result = await program.ended()
          Self.expectEnd(result, place)
        }
        try await fixture.expectEndOfRun()
      }
    }
  }

  /// The standby has received nothing since the run began, so the commits of the run are lost.
  @Test(arguments: sampled(places, 2))
  func theNextRunIsCorrectAfterCommitsAreLost(place: Place) async throws {
    try await Self.withServer { single, primary, platform in
      try await primary.withStandby(named: "second") { standby in
        try await primary.waitUntilReplayed()
        try await standby.stopReceiving(from: primary)
        let fixture = single.with(primary.withFailover(single.database, to: standby))
        try await fixture.database.withConnection { connection in
          let program = try await single.start(until: place, connection)
          try await primary.kill()
          try await standby.promote()
          let runs = try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self)
          #expect(runs == 0, "no commit was lost")
          program.send(signal: SIGTERM)
          fixture.gate.release()
          _ = await program.ended()
        }
        // The ledger does not know the jobs of the lost run. So they are like those of another program: the next run waits
        // until they expire.
        try await platform.withConnection {
          _ = try await $0.execute(
            """
            UPDATE compliance.jobs SET status = 'expired', finished_at = now()
            WHERE status IN ('created', 'in_progress')
            """)
        }
        try await fixture.expectEndOfRun([])
      }
    }
  }

  /// The run waits while its server is a standby, and continues after the promotion. At the last place, it would end at
  /// once.
  @Test(arguments: sampled(places.dropLast(), 2))
  func aRunWaitsForThePromotionOfItsServer(place: Place) async throws {
    try await Self.withServer { fixture, server, _ in
      try await fixture.database.withConnection { connection in
        let program = try await fixture.start(until: place, connection)
        try await server.kill()
        try await server.restart(isStandby: true)
        fixture.gate.release()
        try await server.waitForLog("in a read-only transaction")
        try await server.promote()
        let result = await program.ended()
        #expect(result.code == 0, "\(result.code): \(result.stderr)")
      }
      try await fixture.expectEndOfRun()
    }
  }

  /// The server is not promoted before the lease has expired. No chunk is set aside, and the next run continues.
  @Test(arguments: sampled(places, 2))
  func aRunEndsWhenItsLeaseExpiresOnAStandby(place: Place) async throws {
    try await Self.withServer { fixture, server, _ in
      let file = try fixture.definitionFile {
        $0.editing("limits:", to: "timeouts: {lease_seconds: 15}\nlimits:")
      }
      try await fixture.database.withConnection { connection in
        let program = try await fixture.start(["run", file], until: place, connection)
        try await server.kill()
        try await server.restart(isStandby: true)
        fixture.gate.release()
        let result = await program.ended()
        #expect(result.code == 75, "\(result.code): \(result.stderr)")
      }
      let refused = try await fixture.resume()
      #expect(refused.code == 2 && refused.stderr.contains("standby"), "\(refused.stderr)")
      try await server.promote()
      try await fixture.expectEndOfRun()
    }
  }
}
