import ComplianceService
import Foundation
import TestSupport
import Testing

/// On a full disk, one job fails, and the service continues.
@Suite(.endedIfItHangs) struct StorageFullTests {
  /// Runs the real program with a file size limit of 64 KiB. A larger file fails as on a full disk.
  private static func run(
    _ way: UploadMethod, _ body: (LocalService.Site, LocalService) async throws -> Void
  ) async throws {
    try await LocalService.withSite { site in
      let process = try await ServerProcess.serving(site, way.profile, fileKibibytesMax: 64)
      let service = try LocalService(site: site, process)
      try await service.execute(Submission.platformState)
      try await body(site, service)
      #expect(await process.end(by: SIGTERM) == 0)
    }
  }

  private static let small = Array("1\n2\n".utf8)

  @Test(arguments: UploadMethod.allCases)
  func anUploadOnAFullDiskIsRefusedAndItsJobStillWaits(way: UploadMethod) async throws {
    try await Self.run(way) { site, service in
      let job = try await service.post(way.create()).job()
      let target = try await service.target(of: job, way)
      let large = Array(String(repeating: "1234567\n", count: 20_000).utf8)
      let refused = try await service.put(large, to: target, service.uploadHeaders(way))
      #expect(refused.status == 503, "\(refused.text)")
      #expect(refused.text.contains("no space left to store the"), "\(refused.text)")
      #expect(try await service.job(job.id).status == "created")
      // The service keeps the bytes that it has confirmed to the client. It has confirmed none.
      if way == .gcsInParts {
        #expect(try await service.query(target) == "308")
      } else {
        #expect(try site.spooledFiles.isEmpty)
      }

      let accepted = try await service.put(Self.small, to: target, service.uploadHeaders(way))
      #expect(accepted.status == 200, "\(accepted.text)")
      let done = try await service.processed(job.id)
      #expect(try await service.answers(of: done, way) == ["1", "2"])
      #expect(try site.spooledFiles.count == 1)
    }
  }

  @Test(arguments: UploadMethod.allCases)
  func aResultOnAFullDiskFailsOnlyItsJob(way: UploadMethod) async throws {
    try await Self.run(way) { site, service in
      // The IDs are 4 KB. Their events are about 100 KB.
      let ids = Array((0..<1000).map { "\($0)\n" }.joined().utf8)
      let (response, job) = try await service.submit(ids, way)
      #expect(response.status == 200, "\(response.text)")
      let failed = try await service.processed(job.id)
      #expect(failed.status == "failed")
      #expect(failed.error?.contains("no space left to store the result") == true, "\(failed)")
      #expect(failed.error?.contains("Create a new job later") == true, "\(failed)")
      while try !site.spooledFiles.isEmpty { _ = try await service.get("/healthz") }

      let (_, next) = try await service.submit(Self.small, way)
      let done = try await service.processed(next.id)
      #expect(try await service.answers(of: done, way) == ["1", "2"])
    }
  }

  @Test func aFullDatabaseDiskFailsOnlyTheJob() async throws {
    try await LocalService.run { service in
      try await service.execute(
        Submission.platformState + """
          ;
          ALTER TABLE platform.accounts RENAME TO kept;
          CREATE FUNCTION platform.fail() RETURNS boolean LANGUAGE plpgsql AS $$
          BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
          CREATE VIEW platform.accounts AS SELECT * FROM platform.kept WHERE platform.fail();
          """)
      let failed = try await service.uploaded("users", "1\n2\n")
      #expect(failed.status == "failed")
      #expect(failed.error?.contains("out of memory or disk space") == true, "\(failed)")
      try await service.execute(
        "DROP VIEW platform.accounts; ALTER TABLE platform.kept RENAME TO accounts")
      #expect(try await service.resultLines("users", "1\n2\n").count == 2)
    }
  }

  /// The database's disk is full, too, so the job cannot be marked as failed.
  @Test func aJobThatCannotBeMarkedAsFailedIsProcessedAfterARestart() async throws {
    try await LocalService.withSite { site in
      var site = site
      site.configure = { $0.sweepInterval = .seconds(3600) }
      let job = try await site.serving { service in
        try await service.execute(
          """
          ALTER TABLE platform.posts RENAME TO lost;
          CREATE FUNCTION compliance.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
          CREATE TRIGGER refuse BEFORE UPDATE ON compliance.jobs FOR EACH ROW
          WHEN (new.status = 'failed') EXECUTE FUNCTION compliance.refuse();
          """)
        let job = try await service.uploaded("tweets", "1\n")
        for _ in 0..<20 { #expect(try await service.job(job.id).status == "in_progress") }
        // The service does not retry the job in a loop.
        #expect(service.gate.history.count { $0 == .processing(jobID: job.id) } == 1)
        try await service.execute(
          "DROP TRIGGER refuse ON compliance.jobs; ALTER TABLE platform.lost RENAME TO posts")
        return job
      }
      let status = try await site.serving { try await $0.processed(job.id).status }
      #expect(status == "complete")
    }
  }
}
