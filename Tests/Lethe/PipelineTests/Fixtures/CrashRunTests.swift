import Foundation
import PostgreSQL
import TestSupport
import Testing

/// The warehouse's server crashes or hangs during a run.
@Suite(.endedIfItHangs) struct CrashRunTests {
  /// Runs `body` with a warehouse on a server of its own. The platform is on another server.
  private static func withOwnWarehouse(
    _ body: @escaping @Sendable (PipelineFixture, OwnServer) async throws -> Void
  ) async throws {
    try await PipelineFixture.with { platform in
      try await withOwnServer { server in
        let fixture = PipelineFixture(
          database: try await server.database(.ledger, .warehouse), service: platform.service,
          gate: platform.gate, directory: platform.directory)
        // All of these posts are missing on the platform, so they are clean.
        try await fixture.execute(
          """
          INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
          SELECT p, 1, 'text', now() FROM generate_series(1, 1000) AS p
          """)
        try await body(fixture, server)
        let left = try await fixture.value(
          "SELECT count(*) FROM lethe.chunk WHERE state <> 'applied'", as: Int.self)
        #expect(left == 0)
        #expect(try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == 1)
      }
    }
  }

  @Test func aRunContinuesAfterACrashOfTheWarehouse() async throws {
    try await Self.withOwnWarehouse { fixture, server in
      try await fixture.database.withConnection { connection in
        let program = try await fixture.start(until: .jobIsNotProcessed, connection)
        // The program waits for the job, and its connections are idle.
        try await server.crash()
        try await server.recovered()
        fixture.gate.release()
        let result = await program.ended()
        #expect(result.code == 0, "\(result.code): \(result.stderr)")
      }
    }
  }

  /// In the first of these places, the connections are idle. In the others, a statement is being processed.
  static let places: [Place] = [
    .jobIsNotProcessed, .secondChunkIsBeingRecorded, .jobIsCreatedButNotRecorded,
    .eventsAreBeingCollected, .chunkIsNotRecordedAsApplied,
  ]

  /// The server keeps its connections open, but does not respond. The lease would last for an hour.
  @Test(arguments: sampled(places, [SIGTERM, SIGINT], 4))
  func aSignalEndsARunWhileTheWarehouseHangs(place: Place, signal: Int32) async throws {
    try await Self.expectEnd(at: place, leaseSeconds: 3600) { $0.send(signal: signal) }
  }

  /// Nobody ends the process, but its lease expires while the server does not respond.
  @Test(arguments: sampled(places, 2))
  func aRunEndsWhenItsLeaseExpiresWhileTheWarehouseHangs(place: Place) async throws {
    try await Self.expectEnd(at: place, leaseSeconds: 15) { _ in }
  }

  /// Expects that a run ends with 75 while the server is frozen, and that the next run finishes its work.
  private static func expectEnd(
    at place: Place, leaseSeconds: Int, _ end: @escaping @Sendable (Program) -> Void
  ) async throws {
    try await withOwnWarehouse { fixture, server in
      let file = try fixture.definitionFile {
        $0.editing("limits:", to: "timeouts: {lease_seconds: \(leaseSeconds)}\nlimits:")
      }
      try await fixture.database.withConnection { connection in
        let program = try await fixture.start(["run", file], until: place, connection)
        try server.freeze()
        end(program)
        let result = await program.ended()
        try server.thaw()
        #expect(result.code == 75, "\(result.code): \(result.stderr)")
        try await fixture.release(place, connection)
        let next = try await Program.run(
          "lethe", ["run", file, "--resume-only"], environment: fixture.environment)
        #expect(next.code == 0, "\(next.stderr)")
        if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
      }
    }
  }
}
