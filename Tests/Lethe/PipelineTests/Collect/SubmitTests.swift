import AsyncHTTPClient
import ComplianceAPI
import ComplianceService
import Foundation
import NIOCore
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Vocabulary

@Suite struct SubmitTests {
  private func client<R: Sendable>(
    of fixture: PipelineFixture, _ body: @escaping @Sendable (ComplianceClient) async throws -> R
  ) async throws -> R {
    try await ComplianceClient.withClient(
      baseURL: fixture.service, token: BearerToken(PipelineFixture.token), allowedHosts: [],
      logger: PipelineFixture.logger, body)
  }

  @Test func aJobIsNamedAfterItsRunAndChunkAndGetsTheChunksBytes() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 50)
      let pipeline = try fixture.pipeline()
      try await fixture.withRuntime(pipeline) { runtime in
        _ = try await runtime.export()
        _ = try await runtime.submit()
      }
      let (name, expected) = try await fixture.database.withConnection {
        try await $0.query(
          """
          SELECT a.name,
                 'lethe-' || r.key || '-c' || c.chunk_id || '-a' || j.attempt || '-' || left(encode(c.sha256, 'hex'), 8)
          FROM compliance.jobs AS a JOIN lethe.job AS j ON j.api_id = a.id::text
          JOIN lethe.chunk AS c USING (chunk_id) JOIN lethe.run AS r USING (run_id)
          WHERE a.type = 'tweets'
          """
        ).onlyRow(as: String.self, String.self)
      }
      #expect(name == expected)
      try await fixture.withRuntime(pipeline) { runtime in
        _ = try await runtime.run(resumeOnly: true)
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }

  @Test func submitWaitsForTheJobOfAnotherProgram() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 50)
      let pipeline = try fixture.pipeline()
      let foreign = try await client(of: fixture) {
        try await $0.createJob(type: .tweets, name: "somebody-else")
      }
      try await fixture.withRuntime(pipeline) { runtime in
        _ = try await runtime.export()
        let first = try await runtime.submit()
        // The users' slot is free. The posts' slot is in use.
        #expect(first.chunks == 1)
        #expect(first.waiting == 1)
      }
      try await client(of: fixture) { _ = try await $0.cancelJob(id: foreign.id) }
      try await fixture.withRuntime(pipeline) { runtime in
        #expect(try await runtime.submit().chunks == 1)
        _ = try await runtime.run(resumeOnly: true)
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aMissingOrChangedChunkFileIsWrittenAgainFromTheWarehouse() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500)
      let pipeline = try fixture.pipeline()
      try await fixture.withRuntime(pipeline) { runtime in
        _ = try await runtime.export()
        let files = try FileManager.default.subpathsOfDirectory(atPath: fixture.workDirectory)
          .filter { $0.hasSuffix(".ids") }.sorted()
        #expect(files.count == 4)
        try FileManager.default.removeItem(atPath: fixture.workDirectory + "/" + files[0])
        try "1\n2\n3\n".write(
          toFile: fixture.workDirectory + "/" + files[1], atomically: true, encoding: .utf8)
        // A row that was added after the export is now in the key range.
        try await fixture.execute(
          """
          INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
          VALUES (2500, 6, 'late', now());
          """)
        try await fixture.keepCopy()
        _ = try await runtime.run(resumeOnly: true)
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aJobWithAnExpiredUploadURLIsReplaced() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 50)
      let pipeline = try fixture.pipeline()
      // The ledger records the new job. Then the command is cancelled during the upload, and the upload URL expires.
      try await fixture.withRuntime(pipeline) { runtime in
        _ = try await runtime.export()
        fixture.gate.hold { if case .uploadReceived = $0 { true } else { false } }
        let submitting = Task { try await runtime.submit() }
        try await fixture.gate.reached { if case .uploadReceived = $0 { true } else { false } }
        submitting.cancel()
        fixture.gate.release()
        _ = await submitting.result
      }
      try await fixture.execute(
        """
        UPDATE compliance.jobs
        SET status = 'created', uploaded_at = NULL, finished_at = NULL, result_file = NULL,
            result_bytes = NULL, submission_file = NULL,
            created_at = created_at - interval '1 hour',
            upload_expires_at = upload_expires_at - interval '1 hour'
        """)
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run(resumeOnly: true) }
      #expect(reports.map(\.status) == [.done])
      #expect(try await fixture.rowsThatDiffer() == 0)
      let attempts = try await fixture.value("SELECT max(attempt) FROM lethe.job", as: Int.self)
      #expect(attempts == 2)
    }
  }

  @Test func aRunSucceedsWhenEveryThirdCallFailsBeforeOrAfterItsEffect() async throws {
    let proxy = FlakyProxy()
    try await proxy.serving { proxyURL in
      try await PipelineFixture.with {
        $0.publicURL = proxyURL
      } _: { fixture in
        proxy.forward(to: fixture.service)
        try await fixture.addSamples()
        let pipeline = try fixture.pipeline(api: proxyURL)
        let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
        #expect(reports.map(\.status) == [.done])
        #expect(proxy.failedCalls > 10)
        #expect(try await fixture.rowsThatDiffer() == 0)
        #expect(try await fixture.ledgerFaults() == [])
        let (jobs, chunks) = try await fixture.database.withConnection {
          try await $0.query(
            "SELECT (SELECT count(*) FROM compliance.jobs), (SELECT count(*) FROM lethe.chunk)"
          ).onlyRow(as: Int.self, Int.self)
        }
        #expect(jobs == chunks, "a job was created twice")
      }
    }
  }

  @Test func bytesAreSentOnlyToAllowedHosts() async throws {
    try await PipelineFixture.with {
      $0.publicURL = "http://localhost:1"
    } _: { fixture in
      try await fixture.addSamples(posts: 50)
      let pipeline = try fixture.pipeline()
      await #expect {
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      } throws: { ($0 as? APIError)?.kind == .hostNotAllowed }
      #expect(
        !fixture.gate.history.contains { if case .uploadReceived = $0 { true } else { false } })
    }
  }
}
