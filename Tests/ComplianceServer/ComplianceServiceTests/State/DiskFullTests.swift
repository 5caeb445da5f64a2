import ComplianceService
import Foundation
import TestSupport
import Testing

/// Tests the real program with a spool directory on a small file system, which becomes full.
@Suite(.endedIfItHangs) struct DiskFullTests {
  /// Starts the program with a private spool directory of 96 KiB.
  private static let launcher = [
    "/usr/bin/unshare", PrivateNamespace.mounts, "/bin/bash", "-c",
    #"mount -t tmpfs -o size=96k none "$SPOOL" && exec "$0" "$@""#,
  ]

  @Test(.enabled("mounting a file system is not allowed here", PrivateNamespace.canMount))
  func oneJobFailsAndTheServiceContinues() async throws {
    try await LocalService.withSite { site in
      try FileManager.default.createDirectory(
        atPath: site.spool, withIntermediateDirectories: true)
      let process = try await ServerProcess.serving(site, launcher: Self.launcher)
      let service = try LocalService(site: site, process)
      try await service.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        SELECT id, 'a' || id, '2015-01-01', 'deleted', '2020-01-01' FROM generate_series(1, 3000) AS id
        """)
      func processed(_ text: String) async throws -> WireJob {
        let job = try await service.create("users")
        _ = try await service.put(text, to: job.upload_url).job()
        while try await service.job(job.id).status == "in_progress" { try await pollingPause() }
        return try await service.job(job.id)
      }
      let ids = (1...3000).map { "\($0)\n" }.joined()

      // 14 kB of IDs have a result of 300 kB.
      let failed = try await processed(ids)
      #expect(failed.status == "failed")
      #expect(
        failed.error == "The service has no space left to store the result. Create a new job later."
      )
      // The partial result was removed, and the App can create another job of the same type.
      #expect(try await processed("1\n2\n").status == "complete")

      // An upload that does not fit on the disk is refused, and its job still waits for an upload.
      let job = try await service.create("users")
      let refused = try await service.put(
        String(repeating: "0000000000000000001\n", count: 6000), to: job.upload_url)
      #expect(try refused.problem().status == 503)
      #expect(try await service.job(job.id).status == "created")
      _ = try await service.put("1\n", to: job.upload_url).job()
      while try await service.job(job.id).status == "in_progress" { try await pollingPause() }
      let result = try await service.get(job.download_url)
      #expect(result.body.count { $0 == UInt8(ascii: "\n") } == 1)
      #expect(await process.end(by: SIGTERM) == 0)
    }
  }

  /// The namespaces of a program. They exist while this object holds them open, also after the program has ended.
  private struct Namespaces {
    private let mounts: FileHandle
    private let users: FileHandle?

    init(of process: ServerProcess) throws {
      func opened(_ kind: String) throws -> FileHandle {
        try #require(FileHandle(forReadingAtPath: "/proc/\(process.identifier)/ns/\(kind)"))
      }
      mounts = try opened("mnt")
      users = geteuid() == 0 ? nil : try opened("user")
    }

    /// A command that starts a program in the same namespaces. The program then uses the same spool directory.
    var launcher: [String] {
      func path(_ file: FileHandle) -> String { "/proc/\(getpid())/fd/\(file.fileDescriptor)" }
      let user = users.map { ["--user=\(path($0))", "--preserve-credentials"] } ?? []
      return ["/usr/bin/nsenter", "--mount=\(path(mounts))"] + user
    }
  }

  /// While the first server runs, a second server is refused, even if the disk is full. After the first server is
  /// killed, the next server continues the first server's jobs.
  @Test(.enabled("mounting a file system is not allowed here", PrivateNamespace.canMount))
  func theNextServerContinuesTheJobsOfAKilledServer() async throws {
    try await LocalService.withSite { site in
      try FileManager.default.createDirectory(
        atPath: site.spool, withIntermediateDirectories: true)
      let first = try await ServerProcess.serving(site, launcher: Self.launcher)
      let service = try LocalService(site: site, first)
      let complete = try await service.create("users")
      _ = try await service.put("1\n", to: complete.upload_url).job()
      while try await service.job(complete.id).status == "in_progress" { try await pollingPause() }
      let result = try await service.get(service.job(complete.id).download_url).text
      let waiting = try await service.create("tweets")
      let tooMuch = String(repeating: "0000000000000000001\n", count: 6000)
      #expect(try await service.put(tooMuch, to: waiting.upload_url).problem().status == 503)

      let namespaces = try Namespaces(of: first)
      let launcher = namespaces.launcher
      let refused = try await ServerProcess.serving(site, launcher: launcher)
      #expect(
        refused.log.contains("another compliance-server uses this database"), "\(refused.log)")
      #expect(try await service.job(waiting.id).status == "created")
      #expect(try await service.get(service.job(complete.id).download_url).text == result)

      async let next = ServerProcess.serving(site, launcher: launcher)
      // The upload fails when the server is killed, and leaves a partial file.
      async let upload = try? service.put(tooMuch, to: waiting.upload_url)
      _ = try await service.job(waiting.id)
      #expect(await first.end(by: SIGKILL) == SIGKILL)
      _ = await upload
      let second = try await next
      let successor = try LocalService(site: site, second)
      #expect(try await successor.get(successor.job(complete.id).download_url).text == result)
      let again = try await successor.job(waiting.id)
      #expect(again.status == "created")
      #expect(try await successor.put(tooMuch, to: again.upload_url).problem().status == 503)
      _ = try await successor.put("1\n", to: again.upload_url).job()
      while try await successor.job(again.id).status == "in_progress" { try await pollingPause() }
      #expect(try await successor.job(again.id).status == "complete")
      #expect(await second.end(by: SIGTERM) == 0)
      withExtendedLifetime(namespaces) {}
    }
  }
}
