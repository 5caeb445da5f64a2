import ComplianceService
import PostgreSQL
import TestSupport
import Testing

/// A fixture with the warehouse on a server of its own, so that a test can break this server.
extension PipelineFixture {
  /// Runs `body` with sample data in a warehouse on `server`. The platform's service uses the tests' server, with the same
  /// data. Afterwards, no job may be left in a slot of the API.
  /// - Parameters:
  ///   - configure: changes the configuration of the service.
  ///   - body: gets also the database of the platform's service.
  static func withWarehouse(
    on server: OwnServer, isOnSmallDisk: Bool = false, posts: Int = 1500, users: Int = 40,
    _ configure: @escaping @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in },
    _ body: @escaping @Sendable (PipelineFixture, TestDatabase) async throws -> Void
  ) async throws {
    try await PipelineFixture.with(configure) { platform in
      try await platform.addSamples(posts: posts, users: users)
      let fixture = platform.with(
        try await server.database(.ledger, .warehouse, .platform, isOnSmallDisk: isOnSmallDisk))
      try await fixture.addSamples(posts: posts, users: users)
      try await body(fixture, platform.database)
      let active = try await platform.value(
        "SELECT count(*) FROM compliance.jobs WHERE status IN ('created', 'in_progress')",
        as: Int.self)
      #expect(active == 0, "a job is left in the slot")
    }
  }

  /// Resumes the run, and expects that the warehouse matches the platform.
  /// - Parameter arguments: of `lethe run`.
  func expectEndOfRun(
    _ arguments: [String] = ["--resume-only"], at location: SourceLocation = #_sourceLocation
  ) async throws {
    let next = try await Program.run(
      "lethe", ["run", try definitionFile()] + arguments, environment: environment)
    #expect(next.code == 0, "\(next.stderr)", sourceLocation: location)
    #expect(try await rowsThatDiffer() == 0, sourceLocation: location)
    #expect(try await ledgerFaults() == [], sourceLocation: location)
  }
}
