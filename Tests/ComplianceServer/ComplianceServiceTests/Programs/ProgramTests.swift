import ComplianceService
import Foundation
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// The program as a separate process: its commands, its options and its shutdown.
@Suite(.endedIfItHangs) struct ProgramTests {
  private func serve(
    _ site: LocalService.Site, _ arguments: [String] = []
  ) async throws -> ServerProcess {
    try await .serving(site, .native, arguments)
  }

  @Test func theServerServesUntilItReceivesSIGTERM() async throws {
    try await LocalService.withSite { site in
      let process = try await serve(site)
      let service = try LocalService(site: site, process)
      let job = try await service.create()
      #expect(job.upload_url.hasPrefix(service.baseURL + "/"))
      #expect(try await service.get("/2/compliance/jobs/\(job.id)", token: "x").status == 401)
      #expect(await process.end(by: SIGTERM) == 0)
    }
  }

  @Test func aKilledServerLosesNothingThatItHasConfirmed() async throws {
    try await LocalService.withSite { site in
      var process = try await serve(site)
      let created = try await LocalService(site: site, process).create()
      #expect(await process.end(by: SIGKILL) == SIGKILL)

      process = try await serve(site)
      var service = try LocalService(site: site, process)
      let uploaded = try await service.put("x\n", to: created.upload_url.pathAndQuery).job()
      #expect(uploaded.status == "in_progress")
      #expect(await process.end(by: SIGKILL) == SIGKILL)

      process = try await serve(site)
      service = try LocalService(site: site, process)
      while try await service.job(created.id).status == "in_progress" { try await pollingPause() }
      #expect(try await service.job(created.id).status == "complete")
      #expect(await process.end(by: SIGKILL) == SIGKILL)

      process = try await serve(site)
      service = try LocalService(site: site, process)
      let result = try await service.get(created.download_url.pathAndQuery)
      #expect(result.text == #"{"id":"x","error":"invalid_id"}"# + "\n")
      #expect(await process.end(by: SIGINT) == 0)
    }
  }

  @Test func aMissingSchemaIsReportedWithARemedy() async throws {
    try await withTestDatabase { database in
      let site = LocalService.Site(
        database: database,
        spool: FileManager.default.temporaryDirectory.appending(path: database.name).path())
      let process = try await serve(site)
      #expect(process.baseURL == nil)
      #expect(process.log.contains("compliance-server migrate up"))
      #expect(await process.exitCode() == 1)

      let options = [
        "--database", database.url, "--migrations-dir",
        repositoryRootPath + "/migrations/platform",
      ]
      #expect(try await ServerProcess(["migrate", "up"] + options).exitCode() == 0)
      let served = try await serve(site)
      #expect(served.baseURL != nil)
      #expect(await served.end(by: SIGTERM) == 0)
      #expect(try await ServerProcess(["migrate", "down"] + options).exitCode() == 0)
      #expect(try await serve(site).log.contains("compliance-server migrate up"))
      try? FileManager.default.removeItem(atPath: site.spool)
    }
  }

  @Test func theSameSeedGivesTheSameData() async throws {
    func platformState(_ arguments: [String]) async throws -> String {
      try await withTestDatabase(.platform) { database in
        let seed = ["seed", "--database", database.url, "--accounts", "50", "--posts", "2000"]
        let seeded = try await Program.run("compliance-server", seed + arguments)
        #expect(seeded.code == 0, "\(seeded.stderr)")
        #expect(seeded.stdout.contains("2,000 posts:"), "\(seeded.stdout)")
        // Existing data is not replaced without --replace.
        let again = try await Program.run("compliance-server", seed + arguments)
        #expect(again.code == 1 && again.stderr.contains("--replace"), "\(again.stderr)")
        return try await database.withConnection {
          try await $0.query(
            """
            SELECT (SELECT md5(string_agg(a::text, ' ' ORDER BY account_id)) FROM platform.accounts a)
                || (SELECT md5(string_agg(p::text, ' ' ORDER BY post_id)) FROM platform.posts p)
            """
          ).onlyRow(as: String.self)
        }
      }
    }
    let first = try await platformState(["--seed", "3"])
    #expect(try await platformState(["--seed", "3"]) == first)
    #expect(try await platformState(["--seed", "4"]) != first)
  }

  @Test func anAddressInUseIsReported() async throws {
    try await LocalService.withSite { site in
      let first = try await serve(site)
      let port = try #require(first.baseURL?.split(separator: ":").last)
      try await LocalService.withSite { other in
        let second = try await serve(other, ["--listen", "127.0.0.1:\(port)"])
        #expect(second.baseURL == nil)
        #expect(second.log.contains("cannot listen on 127.0.0.1, port \(port)"))
        #expect(second.log.contains("remedy"))
        #expect(await second.exitCode() == 1)
      }
      #expect(await first.end(by: SIGTERM) == 0)
    }
  }

  @Test func anUnknownHostIsReported() async throws {
    try await LocalService.withSite { site in
      let process = try await serve(site, ["--listen", "no-such-host.invalid:0"])
      #expect(
        process.log.contains(
          "cannot listen on no-such-host.invalid, port 0: its address is unknown"))
      #expect(process.log.contains("remedy"))
      #expect(await process.exitCode() == 1)
    }
  }

  @Test func anUnwritableSpoolIsReported() async throws {
    try await LocalService.withSite { site in
      let process = try await serve(site, ["--spool", "/dev/null/spool"])
      #expect(process.log.contains("cannot write to the spool directory /dev/null/spool"))
      #expect(await process.exitCode() == 1)
    }
  }

  @Test(arguments: [
    (["serve"], "COMPLIANCE_SERVER_TOKEN"),
    (["serve", "--token", "x", "--listen", "8080"], "--listen"),
    (["serve", "--token", "x", "--listen", "0.0.0.0:0"], "--public-url"),
    (["serve", "--token", "x", "--listen", "0:0"], "--public-url"),
    (["serve", "--token", "x", "--listen", "[0::0]:0"], "--public-url"),
    (["serve", "--token", "x", "--listen", "[::ffff:0.0.0.0]:0"], "--public-url"),
    (
      ["serve", "--token", "x", "--profile", "gcs", "--download-lifetime", "604801"],
      "604800 seconds"
    ),
    (["serve", "--token", "x", "--public-url", "example.org"], "--public-url"),
    (
      ["serve", "--token", "x", "--storage-public-url", "https://x.example/a?b"],
      "--storage-public-url"
    ),
    (["serve", "--token", "x", "--storage-public-url", "https://x@x.example"], "no user"),
    (["serve", "--token", "x", "--tokens", "x"], "--tokens"),
  ])
  func wrongUsageIsRefused(_ arguments: [String], naming part: String) async throws {
    let process = try await ServerProcess(
      arguments, environment: ["COMPLIANCE_SERVER_TOKEN": ""])
    #expect(process.log.contains(part))
    #expect(await process.exitCode() == 2)
  }

  /// After SIGTERM, the server completes the current upload and refuses new connections.
  @Test func currentRequestsAreFinishedAtShutdown() async throws {
    try await LocalService.withSite { site in
      let process = try await ServerProcess.serving(site)
      let service = try LocalService(site: site, process)
      let job = try await service.create()
      let connection = try RawConnection(to: job.upload_url)
      try connection.send(
        """
        PUT \(connection.target) HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\
        Authorization: Bearer \(LocalService.token)\r\n\r\n
        """)
      // Now the server waits for the body.
      _ = await connection.read(until: "100 Continue\r\n\r\n")
      try connection.send("1\n")
      process.send(signal: SIGTERM)
      while (try? RawConnection(to: service.baseURL)) != nil { try await pollingPause() }
      try connection.send("2\n")
      let response = await connection.readToEnd()
      #expect(
        response.hasPrefix("HTTP/1.1 200 ") && response.contains("in_progress"), "\(response)")
      #expect(await process.exitCode() == 0)

      let next = try await ServerProcess.serving(site)
      let restarted = try LocalService(site: site, next)
      while try await restarted.job(job.id).status == "in_progress" { try await pollingPause() }
      #expect(try await restarted.job(job.id).status == "complete")
      #expect(await next.end(by: SIGTERM) == 0)
    }
  }

  @Test func theWholeAccessLogIsWrittenBeforeTheServerEnds() async throws {
    try await LocalService.withSite { site in
      try await withTemporaryDirectory { directory in
        let path = directory.appending("log").string
        let log = try FileDescriptor.open(
          path, .writeOnly, options: .create, permissions: .ownerReadWrite)
        defer { try? log.close() }
        let process = try await ServerProcess.serving(
          site, .native, ["--access-log"], stdout: log)
        let service = try LocalService(site: site, process)
        for _ in 1...200 { _ = try await service.get("/healthz") }
        #expect(await process.end(by: SIGTERM) == 0)
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 200)
        #expect(lines.allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("}") })
      }
    }
  }

  @Test(arguments: [
    (
      [],
      [
        "serve", "seed", "faults", "migrate", "/healthz", "/readyz", "/metrics", "/2/openapi.json",
        "/admin",
      ]
    ),
    (
      ["serve"],
      [
        "--database", "--listen", "--token", "COMPLIANCE_SERVER_TOKEN", "--public-url", "--spool",
        "--upload-lifetime", "--download-lifetime", "--profile", "gcs", "--vocabulary", "guide",
        "--storage-listen", "--storage-public-url", "--rate-limit", "--connections", "--faults",
        "--admin-token",
        "COMPLIANCE_SERVER_ADMIN_TOKEN", "--access-log", "--log-level", "128",
      ]
    ),
    (["seed"], ["--accounts", "--posts", "--seed", "--until", "--replace", "--suspended"]),
    (["faults"], ["lose_response", "truncate", "profile", "rate", "/admin/faults"]),
    (["migrate"], ["up", "down", "status"]),
  ])
  func theHelpNamesCommandsOptionsAndPages(_ command: [String], names: [String]) async throws {
    let help = try await Program.run("compliance-server", command + ["--help"])
    #expect(help.code == 0)
    for name in names { #expect(help.stdout.contains(name), "\(name)") }
    #expect(help.stdout.split(separator: "\n").allSatisfy { $0.count <= 100 })
  }
}
