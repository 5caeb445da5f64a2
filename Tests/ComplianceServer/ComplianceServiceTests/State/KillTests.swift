import ComplianceService
import Foundation
import TestSupport
import Testing

/// Kills the real program during an upload, during its commit and during processing. A client that follows the
/// documentation loses nothing.
@Suite(.endedIfItHangs) struct KillTests {
  private static let rounds = 8

  @Test(arguments: UploadMethod.allCases)
  func aKillAtAnyTimeLosesNothing(way: UploadMethod) async throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    let text = Array((0..<40_000).map { "\($0)\n" }.shuffled(using: &random).joined().utf8)
    try await LocalService.withSite { site in
      var process = try await ServerProcess.serving(site, way.profile)
      try await LocalService(site: site, process).execute(Submission.platformState)
      for round in 0..<Self.rounds {
        var service = try LocalService(site: site, process)
        let job = try await service.post(way.create()).job()
        let target = try await service.target(of: job, way)
        // About half of the uploads are complete. A random number of requests follows each upload, so that the kills
        // come at different times.
        let count =
          Bool.random(using: &random) ? text.count : Int.random(in: 0..<text.count, using: &random)
        try Self.send(text, upTo: count, to: target, way)
        for _ in 0..<Int.random(in: 0...3, using: &random) { _ = try await service.job(job.id) }
        #expect(await process.end(by: SIGKILL) == SIGKILL)

        process = try await ServerProcess.serving(site, way.profile)
        service = try LocalService(site: site, process)
        let done = try await Self.resume(service, job.id, target, text, way)
        let comment: Comment = "seed \(seed), round \(round), \(count) bytes"
        try #require(done.status == "complete", comment)
        let isRight = try await service.answers(of: done, way) == Submission(text).answers
        #expect(isRight, comment)
      }
      // Only the results are left, no partial files.
      let service = try LocalService(site: site, process)
      while try site.spooledFiles.count != Self.rounds { _ = try await service.get("/healthz") }
      #expect(try site.spooledFiles.allSatisfy { $0.hasSuffix(".ndjson") })
      #expect(await process.end(by: SIGTERM) == 0)
    }
  }

  /// Sends the beginning of an upload, and does not wait for the response.
  private static func send(
    _ text: [UInt8], upTo count: Int, to target: String, _ way: UploadMethod
  ) throws {
    let connection = try RawConnection(to: target)
    var head = """
      PUT \(connection.target) HTTP/1.1\r\nHost: \(connection.authority)\r\n\
      Content-Type: text/plain\r\nContent-Length: \(text.count)\r\n
      """
    switch way {
    case .native: head += "Authorization: Bearer \(LocalService.token)\r\n"
    case .gcs: break
    case .gcsInParts: head += "Content-Range: bytes 0-\(text.count - 1)/\(text.count)\r\n"
    }
    try connection.send(head + "\r\n")
    try connection.send(Array(text[..<count]))
  }

  /// Continues the job as a client does after a restart: reads the job, and sends the missing bytes.
  private static func resume(
    _ service: LocalService, _ id: String, _ target: String, _ text: [UInt8], _ way: UploadMethod
  ) async throws -> WireJob {
    let job = try await service.job(id)
    guard job.status == "created" else { return try await service.processed(id) }
    guard way == .gcsInParts else {
      let response = try await service.put(text, to: job.upload_url, service.uploadHeaders(way))
      try #require(response.status == 200, "\(response.text)")
      return try await service.processed(id)
    }
    // After the restart, the storage host listens on another port.
    let session = String(job.upload_url.prefix { $0 != "?" } + target.drop { $0 != "?" })
    // The query contains the length. So it also completes the upload if all parts were stored before the kill.
    let stored = try await service.query(session, total: "\(text.count)")
    guard stored.hasPrefix("308") else { return try await service.processed(id) }
    let begin =
      stored.split(separator: "-").dropFirst().last.flatMap { Int($0) }.map { $0 + 1 } ?? 0
    let response = try await service.part(text, begin..<text.count, of: session)
    try #require(response.status == 200, "\(stored), \(response.text)")
    return try await service.processed(id)
  }
}
