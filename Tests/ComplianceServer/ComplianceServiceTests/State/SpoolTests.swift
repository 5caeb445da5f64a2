import ComplianceService
import Foundation
import TestSupport
import Testing

/// The files in the spool directory, and their lifetimes.
@Suite(.endedIfItHangs) struct SpoolTests {
  private static func run(
    _ configure: @escaping @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in },
    _ body: (LocalService.Site, LocalService) async throws -> Void
  ) async throws {
    try await LocalService.withSite { site in
      var site = site
      site.configure = configure
      try await site.serving { try await body(site, $0) }
    }
  }

  /// Waits until a sweep (every 20 ms) has emptied the spool.
  private static func waitUntilSpoolIsEmpty(
    _ site: LocalService.Site, _ service: LocalService
  ) async throws {
    while try !site.spooledFiles.isEmpty { _ = try await service.get("/healthz") }
  }

  @Test func aResultIsRemovedWhenItsDownloadExpires() async throws {
    try await Self.run { site, service in
      let job = try await service.finish(service.create(), uploading: "x\n")
      #expect(try site.spooledFiles.count == 1)
      try await service.execute(
        """
        UPDATE compliance.jobs SET download_expires_at = created_at, upload_expires_at = created_at
        """
      )
      try await Self.waitUntilSpoolIsEmpty(site, service)
      #expect(try await service.job(job.id).status == "complete")
    }
  }

  @Test func theSubmissionOfAFailedJobIsRemoved() async throws {
    try await Self.run { site, service in
      let job = try await service.create()
      try await service.execute("ALTER TABLE platform.posts RENAME TO lost")
      #expect(try await service.finish(job, uploading: "1\n").status == "failed")
      try await Self.waitUntilSpoolIsEmpty(site, service)
    }
  }

  @Test func thePartsOfASessionAreRemovedWithItsJob() async throws {
    try await Self.run({ $0.profile = .gcs }) { site, service in
      let job = try await service.post(UploadMethod.gcsInParts.create()).job()
      let session = try await service.target(of: job, .gcsInParts)
      let text = Array(String(repeating: "1234567\n", count: 50_000).utf8)
      #expect(try await service.part(text, 0..<262_144, of: session).status == 308)
      let file = try #require(try site.spooledFiles.first)
      let attributes = try FileManager.default.attributesOfItem(atPath: "\(site.spool)/\(file)")
      #expect(attributes[.posixPermissions] as? Int == 0o600)
      try await service.execute(
        """
        UPDATE compliance.upload_sessions SET expires_at = clock_timestamp();
        UPDATE compliance.jobs SET upload_expires_at = created_at
        """)
      try await Self.waitUntilSpoolIsEmpty(site, service)
      #expect(try await service.job(job.id).status == "expired")
      #expect(try await service.query(session) == "410")
    }
  }

  /// Names and paths in requests never become file names.
  @Test(arguments: WireProfile.allCases)
  func noRequestDeterminesAFileName(profile: WireProfile) async throws {
    let paths = [
      "../escaped", "..%2Fescaped", "%2e%2e%2fescaped", "/etc/passwd", "%00", "1%00.ids",
    ]
    try await Self.run({ $0.profile = profile }) { site, service in
      let way = profile == .native ? UploadMethod.native : .gcsInParts
      let job = try await service.post(
        way.create("tweets").replacing("}", with: #","name":"../../escaped"}"#)
      ).job()
      for path in paths {
        let target = try await Self.misnamed(service, job, way, path)
        for url in target {
          let response = try await service.put(
            Array("1\n".utf8), to: url, service.uploadHeaders(way))
          #expect((400..<500).contains(response.status), "\(url): \(response.status)")
        }
      }
      #expect(try site.spooledFiles.isEmpty)
      let session = try await service.target(of: job, way)
      #expect(
        try await service.put(Array("x\n1\n".utf8), to: session, service.uploadHeaders(way)).status
          == 200)
      _ = try await service.processed(job.id)
      let names = try site.spooledFiles
      #expect(
        names.allSatisfy { $0.wholeMatch(of: #/\d+-[0-9a-z]+\.(ids|ndjson)/#) != nil }, "\(names)")
      let beside = try FileManager.default.contentsOfDirectory(atPath: site.spool + "/..")
      #expect(!beside.contains { $0.contains("escaped") })
    }
  }

  /// Returns variants of the job's upload URL. The path replaces the job's ID, follows it, or replaces
  /// the token or the upload ID.
  private static func misnamed(
    _ service: LocalService, _ job: WireJob, _ way: UploadMethod, _ path: String
  ) async throws -> [String] {
    let url = job.upload_url
    let base = String(url.prefix { $0 != "?" })
    return [
      url.replacing("/\(job.id)", with: "/\(path)"),
      url.replacing("/\(job.id)", with: "/\(job.id)/\(path)"),
      base + (way == .native ? "?token=\(path)" : "?upload_id=\(path)"),
    ]
  }
}
