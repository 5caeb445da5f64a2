import ComplianceService
import Foundation
import NIOHTTP1
import PostgreSQL
import TestSupport
import Testing

/// A database that accepts statements but does not respond, for example because its disk or its machine hangs.
@Suite(.endedIfItHangs) struct HangingDatabaseTests {
  private static let jobs = "\(LocalService.jobsPath)?type=tweets"

  private static func sessions(of service: LocalService) async throws -> [Int64] {
    try await service.database.withConnection {
      try await $0.query(
        """
        SELECT pid::bigint FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'compliance-server' ORDER BY 1
        """
      ).rows(as: Int64.self)
    }
  }

  /// Stops the PostgreSQL processes of the service's current sessions while `body` runs.
  /// - Parameter body: gets a function that stops the sessions that the service has opened meanwhile.
  private static func withSessionsStopped<R: Sendable>(
    _ service: LocalService, _ body: (_ stopOthers: () async throws -> Void) async throws -> R
  ) async throws -> R {
    var stopped: Set<Int64> = []
    defer { for process in stopped { kill(pid_t(process), SIGCONT) } }
    func stop() async throws {
      // On a slow machine, the service may still be opening or replacing a session.
      var processes: [Int64] = []
      repeat {
        processes = try await sessions(of: service)
      } while try await sessions(of: service) != processes
      for process in processes { kill(pid_t(process), SIGSTOP) }
      stopped.formUnion(processes)
    }
    try await stop()
    #expect(!stopped.isEmpty)
    return try await body(stop)
  }

  /// A health check whose session hangs ends after `healthTimeout`.
  @Test func theNextHealthCheckUsesAnotherSession() async throws {
    try await LocalService.run({ $0.healthTimeout = .milliseconds(200) }) { service in
      #expect(try await service.get("/readyz").status == 200)
      try await Self.withSessionsStopped(service) { stopOthers in
        var unavailable = try await service.get("/readyz")
        // On a slow machine, the service may have replaced a session that is too slow for this timeout.
        while unavailable.status == 200 {
          try await stopOthers()
          unavailable = try await service.get("/readyz")
        }
        #expect(try unavailable.problem().status == 503)
        #expect(unavailable.text.contains("the database is slow"), "\(unavailable.text)")
        while try await service.get("/readyz").status != 200 { try await pollingPause() }
      }
    }
  }

  /// A request whose session hangs ends after `databaseTimeout`. The next request uses another session.
  @Test func aHangingRequestEndsAndTheNextRequestIsServed() async throws {
    try await LocalService.run({ $0.databaseTimeout = .seconds(5) }) { service in
      #expect(try await service.get(Self.jobs).status == 200)
      try await Self.withSessionsStopped(service) { _ in
        let response = try await service.get(Self.jobs)
        #expect(try response.problem().status == 503)
        #expect(response.headers.first(name: "retry-after") == "1")
        #expect(try await service.get(Self.jobs).status == 200)
      }
    }
  }

  /// The server receives SIGTERM while requests, the processing of a job and health checks wait for the database.
  @Test func theServerStopsWhileTheDatabaseHangs() async throws {
    try await withOwnServer { server in
      let database = try await server.database(.platform)
      let spool = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path()
      defer { try? FileManager.default.removeItem(atPath: spool) }
      let site = LocalService.Site(database: database, spool: spool)
      let process = try await ServerProcess.serving(site)
      let service = try LocalService(site: site, process)
      try await database.withConnection { holder in
        try await holder.runScript("BEGIN; LOCK TABLE platform.posts IN ACCESS EXCLUSIVE MODE")
        _ = try await service.put("1\n", to: service.create().upload_url).job()
        try await database.withConnection { observer in
          while try await !observer.query(
            """
            SELECT EXISTS (SELECT FROM pg_stat_activity
                           WHERE wait_event_type = 'Lock' AND query LIKE '%platform.posts%')
            """
          ).onlyRow(as: Bool.self) { try await pollingPause() }
        }
        try server.freeze()
        async let listing = try? service.get(Self.jobs)
        while true {
          let health = try await service.get("/healthz").text
          if health.contains("slow") { break }
        }
        process.send(signal: SIGTERM)
        #expect(await process.exitCode() == 0)
        _ = await listing
        try server.thaw()
      }
      // The job is not lost.
      let next = try await ServerProcess.serving(site)
      let restarted = try LocalService(site: site, next)
      let job = try #require(
        try await restarted.get(Self.jobs).decoded(WireJob.List.self).data?.first)
      #expect(try await restarted.processed(job.id).status == "complete")
      #expect(await next.end(by: SIGTERM) == 0)
    }
  }
}
