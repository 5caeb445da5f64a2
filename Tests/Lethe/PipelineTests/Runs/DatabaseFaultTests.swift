import Foundation
import PostgreSQL
import TestSupport
import Testing

/// The warehouse's server runs out of something during a run.
@Suite(.endedIfItHangs) struct DatabaseFaultTests {
  /// The disk with the warehouse and the ledger becomes full at a place of a run. After there is room again, the next run
  /// finishes the work.
  @Test(
    .enabled("mounting a file system is not allowed here", PrivateNamespace.rootCanMount),
    arguments: sampled(FailoverTests.places, 2))
  func aRunContinuesAfterTheDiskWasFull(place: Place) async throws {
    try await withOwnServer(smallDisk: "64m") { server in
      try await PipelineFixture.withWarehouse(on: server, isOnSmallDisk: true) { fixture, _ in
        try await fixture.database.withConnection { connection in
          let program = try await fixture.start(until: place, connection)
          try await fixture.fillDisk(connection)
          try await fixture.release(place, connection)
          let result = await program.ended()
          if place == .jobIsNotProcessed {
            #expect(result.code == 75, "\(result.stderr)")
            #expect(result.stderr.contains("No space left on device"), "\(result.stderr)")
          }
          #expect([0, 75].contains(result.code), "\(result.stderr)")
          #expect(try await fixture.damagedRows() == 0)
          let failed: SQL = "SELECT count(*) FROM lethe.chunk WHERE state = 'failed'"
          #expect(try await connection.query(failed).onlyRow(as: Int.self) == 0)
          try await connection.execute("DROP TABLE filling")
          if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
        }
        try await fixture.expectEndOfRun()
      }
    }
  }

  /// Other programs use all of the server's connections, from a place of a run until its lease has expired.
  @Test(arguments: sampled(FailoverTests.places, 2))
  func aRunEndsIfItGetsNoConnection(place: Place) async throws {
    try await withOwnServer("max_connections = 30", "superuser_reserved_connections = 0") {
      server in
      try await PipelineFixture.withWarehouse(on: server) { fixture, _ in
        let file = try fixture.definitionFile {
          $0.editing("limits:", to: "timeouts: {lease_seconds: 15}\nlimits:")
        }
        try await fixture.database.withConnection { connection in
          let program = try await fixture.start(["run", file], until: place, connection)
          let others = try await fixture.takeAllConnections(connection)
          try await fixture.release(place, connection)
          let result = await program.ended()
          #expect(result.code == 75, "\(result.stderr)")
          if place != .runIsNotRecordedAsDone {
            #expect(result.stderr.contains("too many clients"), "\(result.stderr)")
          }
          let refused = try await fixture.resume()
          #expect(refused.code == 75, "\(refused.stderr)")
          #expect(refused.stderr.contains("max_connections"), "\(refused.stderr)")
          for other in others { await other.close() }
          if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
        }
        try await fixture.expectEndOfRun()
      }
    }
  }

  /// The connections are free again before the lease expires. The run has waited for one.
  @Test func aRunContinuesWhenAConnectionIsFree() async throws {
    try await withOwnServer(
      "max_connections = 30", "superuser_reserved_connections = 0"
    ) { server in
      try await PipelineFixture.withWarehouse(on: server) { fixture, _ in
        try await fixture.database.withConnection { connection in
          let program = try await fixture.start(until: .jobIsNotProcessed, connection)
          let others = try await fixture.takeAllConnections(connection)
          let refused = try server.logCount("too many clients")
          fixture.gate.release()
          try await server.waitForLog("too many clients", moreThan: refused)
          for other in others { await other.close() }
          let result = await program.ended()
          #expect(result.code == 0, "\(result.stderr)")
        }
        try await fixture.expectEndOfRun()
      }
    }
  }
}

extension PipelineFixture {
  /// Fills the disk of the database: first with large rows, then with small ones.
  fileprivate func fillDisk(_ connection: Connection) async throws {
    try await connection.execute("CREATE TABLE filling (bytes bytea)")
    try await connection.execute("ALTER TABLE filling ALTER bytes SET STORAGE EXTERNAL")
    for size in [1_000_000, 100_000, 7_000] {
      do {
        while true {
          try await connection.execute(
            "INSERT INTO filling SELECT decode(repeat('ab', \(literal: size)), 'hex')")
        }
      } catch let error as PostgreSQLError where error.state?.rawValue == "53100" {}
    }
  }

  /// Terminates the sessions of `lethe`, and opens as many connections as the server allows.
  fileprivate func takeAllConnections(_ connection: Connection) async throws -> [Connection] {
    var others: [Connection] = []
    while true {
      do {
        others.append(
          try await Connection.connect(database.connectionString, applicationName: "other"))
      } catch let error as PostgreSQLError where error.code == .connectionFailed {
        // The end of a session of `lethe` frees a connection. A session that begins is not shown yet.
        let ended = try await terminateSessions(connection)
        let max = try await connection.query("SELECT current_setting('max_connections')::int")
          .onlyRow(as: Int.self)
        if ended == 0, others.count == max - 1 { return others }
      }
    }
  }
}
