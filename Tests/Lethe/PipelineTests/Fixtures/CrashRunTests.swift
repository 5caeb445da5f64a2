import ComplianceService
import PostgreSQL
import TestSupport
import Testing

/// The warehouse's server crashes during a run.
@Suite(.endedIfItHangs) struct CrashRunTests {
  @Test func aRunContinuesAfterACrashOfTheWarehouse() async throws {
    try await PipelineFixture.with { platform in
      try await withOwnServer { server in
        let fixture = PipelineFixture(
          database: try await server.database(.ledger, .warehouse), service: platform.service,
          gate: platform.gate, directory: platform.directory)
        try await fixture.execute(
          """
          INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
          SELECT p, 1, 'text', now() FROM generate_series(1, 50) AS p
          """)
        let isProcessing: @Sendable (ServicePoint) -> Bool = {
          if case .processing = $0 { true } else { false }
        }
        platform.gate.hold(isProcessing)
        let arguments = ["run", try fixture.definitionFile()]
        let program = try Program("lethe", arguments, environment: fixture.environment)
        try await platform.gate.reached(isProcessing)
        // The program waits for the job, and its connections are idle.
        try await server.crash()
        await server.recovered()
        platform.gate.release()
        let ending = await program.ended()
        #expect(ending.code == 0, "\(ending.code): \(ending.stderr)")
        let left = try await fixture.value(
          "SELECT count(*) FROM lethe.chunk WHERE state <> 'applied'", as: Int.self)
        #expect(left == 0)
      }
    }
  }
}
