import ComplianceService
import Foundation
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// A database and its spool belong to one server at a time.
@Suite(.endedIfItHangs) struct OwnershipTests {
  private static func jobs(_ site: LocalService.Site) async throws -> [String] {
    try await site.database.withConnection {
      try await $0.query(
        "SELECT id || ' ' || status || coalesce(error, '') FROM compliance.jobs ORDER BY id"
      )
      .rows(as: String.self)
    }
  }

  /// The second server does not change the first server's jobs. The second server is refused with any address and any
  /// spool directory.
  @Test(arguments: [[], ["--spool", "elsewhere"], ["--listen", "taken"]])
  func aSecondServerIsRefusedAndChangesNothing(arguments: [String]) async throws {
    try await LocalService.withSite { site in
      try await site.serving { service in
        let job = try await service.create()
        service.gate.hold { $0 == .processing(jobID: job.id) }
        _ = try await service.put("a\n", to: job.upload_url).job()
        try await service.gate.reached { $0 == .processing(jobID: job.id) }
        let before = try await Self.jobs(site)
        let listen = service.baseURL.replacing("http://", with: "")
        let second = try await ServerProcess.serving(
          site, .native,
          arguments.map {
            $0 == "taken" ? listen : $0 == "elsewhere" ? site.spool + "-elsewhere" : $0
          })
        #expect(second.baseURL == nil)
        #expect(
          second.log.contains("another compliance-server uses this database"), "\(second.log)")
        #expect(second.log.contains("remedy: "), "\(second.log)")
        #expect(await second.exitCode() != 0)
        #expect(try await Self.jobs(site) == before)
        service.gate.release()
        try await service.gate.reached { $0 == .processed(jobID: job.id) }
        #expect(try await service.job(job.id).status == "complete")
      }
    }
  }

  /// The session of a killed server does not block the next server.
  @Test func aKilledServerDoesNotBlockTheNextServer() async throws {
    try await LocalService.withSite { site in
      for _ in 1...2 {
        let process = try await ServerProcess.serving(site)
        #expect(process.baseURL != nil, "\(process.log)")
        _ = await process.end(by: SIGKILL)
      }
      try await site.serving { _ = try await $0.create() }
    }
  }

  /// The service starts with another spool directory, but the jobs' files are still in the old directory. If the server
  /// started, each job would fail.
  /// - Parameter isMoved: whether the files are moved to the other directory. Then the server starts.
  @Test(arguments: [false, true])
  func anotherSpoolIsRefusedWhileThereAreFiles(isMoved: Bool) async throws {
    try await LocalService.withSite { site in
      let job = try await site.serving { try await $0.finish($0.create(), uploading: "a\n") }
      let elsewhere = LocalService.Site(database: site.database, spool: site.spool + "-moved")
      defer { try? FileManager.default.removeItem(atPath: elsewhere.spool) }
      if isMoved { try FileManager.default.moveItem(atPath: site.spool, toPath: elsewhere.spool) }
      if isMoved {
        try await elsewhere.serving { service in
          let status = try await service.get(job.download_url.pathAndQuery).status
          #expect(status == 200)
        }
        return
      }
      do {
        try await elsewhere.serving { _ in }
        Issue.record("the spool was accepted")
      } catch let error as StartError {
        #expect(error.message.contains("they were in \(site.spool)"), "\(error)")
      }
      #expect(try await Self.jobs(site) == ["\(job.id) complete"])
      try await site.serving { service in
        let status = try await service.get(job.download_url.pathAndQuery).status
        #expect(status == 200)
      }
      // After this update, no file can be downloaded any more, so the other directory is accepted.
      _ = try await site.database.withConnection {
        try await $0.execute(
          """
          UPDATE compliance.jobs SET created_at = now() - interval '9 days',
          upload_expires_at = now() - interval '8 days', download_expires_at = now() - interval '8 days'
          """
        )
      }
      try await elsewhere.serving { _ = try await $0.create() }
    }
  }

  @Test func theSpoolOfAnotherDatabaseIsRefused() async throws {
    try await LocalService.withSite { site in
      try await site.serving { _ = try await $0.create() }
      try await withTestDatabase(.platform) { other in
        let wrong = LocalService.Site(database: other, spool: site.spool)
        do {
          try await wrong.serving { _ in }
          Issue.record("the spool was accepted")
        } catch let error as StartError {
          #expect(error.message.contains("belongs to another database"), "\(error)")
        }
      }
    }
  }

  @Test func theDefaultSpoolDoesNotDependOnTheWorkingDirectory() async throws {
    try await LocalService.withSite { site in
      let state = site.spool + "-state"
      defer { try? FileManager.default.removeItem(atPath: state) }
      for number in 1...2 {
        let process = try await ServerProcess(
          [
            "serve", "--database", site.database.url, "--listen", "127.0.0.1:0", "--rate-limit",
            "0",
            "--migrations-dir", repositoryRootPath + "/migrations/platform",
          ],
          environment: [
            "COMPLIANCE_SERVER_TOKEN": LocalService.token, "XDG_STATE_HOME": state,
          ], launcher: ["/usr/bin/env", "-C", number == 1 ? "/" : "/tmp"])
        let service = try LocalService(site: site, process)
        _ = try await service.put(
          "a\n", to: service.create(number == 1 ? "tweets" : "users").upload_url)
        _ = await process.end(by: SIGTERM)
      }
      let folders = try FileManager.default.contentsOfDirectory(
        atPath: state + "/compliance-server")
      #expect(folders.count == 1 && folders[0].hasPrefix("spool-"), "\(folders)")
    }
  }

  @Test func aServerThatLosesTheOwnershipEnds() async throws {
    try await LocalService.withSite { site in
      let process = try await ServerProcess.serving(site)
      #expect(process.baseURL != nil)
      try await site.database.withConnection { connection in
        // The server's session is terminated, and the test's session takes the lock before the server can take it
        // again.
        try await Self.takeOver(connection)
        #expect(await process.exitCode() != 0)
      }
    }
  }

  /// A server might not notice at once that it has lost the ownership. It does not remove the files that its successor
  /// is writing.
  @Test func aServerWithoutOwnershipRemovesNothing() async throws {
    try await LocalService.withSite { site in
      let lines = LineCollector()
      var first = site
      first.configure = {
        $0.logger = collectingLogger(lines)
      }
      try await withThrowingTaskGroup(of: Void.self) { group in
        let (jobs, created) = AsyncStream.makeStream(of: String.self)
        group.addTask { [first] in
          // Runs until the server notices the loss and ends.
          try? await first.serving { service in
            created.yield(try await service.create().id)
            for await _ in AsyncStream<Never>.makeStream().stream {}
          }
        }
        var ids = jobs.makeAsyncIterator()
        let id = try #require(await ids.next())
        try await site.database.withConnection { successor in
          try await Self.takeOver(successor)
          let file = "\(site.spool)/\(id)-x.ids"
          #expect(FileManager.default.createFile(atPath: file, contents: nil))
          while FileManager.default.fileExists(atPath: file),
            !lines.all.contains(where: { $0.contains("cannot sweep") })
          {
            try await pollingPause()
          }
          #expect(FileManager.default.fileExists(atPath: file))
        }
        group.cancelAll()
        try await group.waitForAll()
      }
    }
  }

  /// Terminates the owner's session, and takes the owner's lock.
  static func takeOver(_ connection: Connection) async throws {
    _ = try await connection.query(
      """
      SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l
      WHERE l.locktype = 'advisory' AND l.objid = 0 AND l.objsubid = 2
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      """)
    _ = try await connection.query("SELECT pg_advisory_lock(hashtext('compliance.server'), 0)")
  }

  /// The first server is killed during an upload or its processing, while the second server waits to become the owner.
  /// The second server continues, whenever the kill happens.
  @Test func theNextServerStartsWhileTheFirstIsKilled() async throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    let text = Array((0..<20_000).map { "\($0)\n" }.joined().utf8)
    let expected = Submission(text).answers
    try await LocalService.withSite { site in
      var process = try await ServerProcess.serving(site)
      try await LocalService(site: site, process).execute(Submission.platformState)
      var done: [String] = []
      for round in 1...4 {
        let service = try LocalService(site: site, process)
        let job = try await service.post(UploadMethod.native.create()).job()
        async let next = ServerProcess.serving(site)
        // The upload might get no response.
        async let response = try? service.put(
          text, to: job.upload_url, service.uploadHeaders(.native))
        for _ in 0..<Int.random(in: 0...20, using: &random) { _ = try await service.job(job.id) }
        #expect(await process.end(by: SIGKILL) == SIGKILL)
        _ = await response
        process = try await next
        let comment: Comment = "seed \(seed), round \(round): \(process.log)"
        try #require(process.baseURL != nil, comment)

        let successor = try LocalService(site: site, process)
        if try await successor.job(job.id).status == "created" {
          let again = try await successor.put(
            text, to: successor.job(job.id).upload_url, successor.uploadHeaders(.native))
          #expect(again.status == 200, comment)
        }
        done.append(job.id)
        // All earlier jobs are complete.
        for id in done {
          let job = try await successor.processed(id)
          try #require(job.status == "complete", comment)
          let isRight = try await successor.answers(of: job, .native) == expected
          #expect(isRight, comment)
        }
      }
      #expect(await process.end(by: SIGTERM) == 0)
    }
  }
}
