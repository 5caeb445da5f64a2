import ComplianceService
import Foundation
import Logging
import PostgreSQL
import TestSupport
import Testing

/// After another server has become the owner of a database, no session of an earlier server can change the database.
@Suite(.endedIfItHangs) struct FenceTests {
  private static let jobs = "\(LocalService.jobsPath)?type=tweets"
  /// The keys of an advisory lock. Each session of a server has this lock in shared mode.
  private static let fence: SQL = "hashtext('compliance.server'), 1"

  /// The old server's sessions are terminated, and it has not noticed yet that it has lost the ownership. It must
  /// respond with 503.
  @Test func aServerWithoutOwnershipRespondsWith503() async throws {
    try await LocalService.withSite { site in
      let process = try await ServerProcess.serving(site)
      let service = try LocalService(site: site, process)
      #expect(try await service.get(Self.jobs).status == 200)
      try await site.database.withConnection { successor in
        try await OwnershipTests.takeOver(successor)
        let isAlone: SQL = "SELECT pg_try_advisory_lock(\(Self.fence))"
        #expect(try await !successor.query(isAlone).onlyRow(as: Bool.self))
        while try await !successor.query(isAlone).onlyRow(as: Bool.self) {
          _ = try await successor.query(
            """
            SELECT pg_terminate_backend(pid) FROM pg_locks
            WHERE locktype = 'advisory' AND objid = 1 AND objsubid = 2 AND granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND pid <> pg_backend_pid()
            """)
        }
        _ = try await successor.query("SELECT pg_advisory_unlock(\(Self.fence))")
        var responses = 0
        // Loop until the server notices the loss and ends.
        while let response = try? await service.get(Self.jobs) {
          responses += 1
          #expect(response.status == 503, "\(response.text)")
          if response.status != 503 { break }
        }
        #expect(responses > 0)
        #expect(await process.exitCode() != 0)
      }
    }
  }

  /// A statement of a killed server still waits in PostgreSQL, which has not noticed the kill. The next server starts,
  /// and the statement has no effect.
  @Test func aStatementOfAKilledServerHasNoEffect() async throws {
    try await LocalService.withSite { site in
      let process = try await ServerProcess.serving(site)
      let service = try LocalService(site: site, process)
      _ = try await service.create("users")
      try await site.database.withConnection { holder in
        try await site.database.withConnection { observer in
          try await Self.withUncommittedJob(holder) {
            async let create = try? service.create("tweets")
            let waiting = try await Self.waitingProcess(observer)
            #expect(await process.end(by: SIGKILL) == SIGKILL)
            _ = await create
            let next = try await ServerProcess.serving(site)
            #expect(next.baseURL != nil, "\(next.log)")
            return (waiting, next)
          } then: { waiting, next in
            while try await observer.query(
              "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = \(waiting))"
            ).onlyRow(as: Bool.self) { try await pollingPause() }
            let jobs = try await observer.query("SELECT type FROM compliance.jobs")
              .rows(as: String.self)
            #expect(jobs == ["users"])
            #expect(await next.end(by: SIGTERM) == 0)
          }
        }
      }
    }
  }

  /// Runs `body` while another session has an uncommitted job of type tweets. Runs `then` after the session's rollback.
  private static func withUncommittedJob<R>(
    _ holder: Connection, _ body: () async throws -> R, then: (R) async throws -> Void
  ) async throws {
    _ = try await holder.query("BEGIN")
    try await holder.execute(
      """
      INSERT INTO compliance.jobs (app_id, type, upload_expires_at, download_expires_at)
      SELECT app_id, 'tweets', now() + interval '1 day', now() + interval '1 day'
      FROM compliance.jobs
      """)
    let value = try await body()
    _ = try await holder.query("ROLLBACK")
    try await then(value)
  }

  private static func waitingProcess(_ observer: Connection) async throws -> Int64 {
    while true {
      let process = try await observer.query(
        """
        SELECT pid::bigint FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
        """
      ).firstRow(as: Int64.self)
      if let process { return process }
      try await pollingPause()
    }
  }

  // MARK: Remaining sessions

  /// Takes the lock that each session of a server has, so that this session looks like a session of an earlier server.
  /// Returns the session's process ID.
  private static func takeFence(_ connection: Connection) async throws -> Int {
    try await connection.query(
      "SELECT pg_backend_pid() FROM pg_advisory_lock_shared(\(fence)) AS l"
    ).onlyRow(as: Int.self)
  }

  @Test func remainingSessionsAreTerminated() async throws {
    try await LocalService.withSite { site in
      let remaining = try await Connection.connect(site.database.connectionString)
      _ = try await Self.takeFence(remaining)
      try await site.serving { service in
        let status = try await service.get(Self.jobs).status
        #expect(status == 200)
      }
      await #expect(throws: PostgreSQLError.self) { _ = try await remaining.query("SELECT 1") }
      await remaining.close()
    }
  }

  /// The server's role has no privilege to terminate the remaining session, because the session belongs to another
  /// role.
  /// - Parameter isEnding: whether the session ends before the server's time limit.
  @Test(arguments: [false, true])
  func theServerNamesASessionThatItCannotTerminate(_ isEnding: Bool) async throws {
    try await LocalService.withSite { site in
      let role = site.database.name + "_server"
      try await site.database.withConnection {
        try await $0.runScript(
          """
          CREATE ROLE \(identifier: role) LOGIN;
          GRANT USAGE ON SCHEMA compliance, platform TO \(identifier: role);
          GRANT ALL ON ALL TABLES IN SCHEMA compliance, platform TO \(identifier: role);
          GRANT ALL ON ALL SEQUENCES IN SCHEMA compliance TO \(identifier: role);
          """)
      }
      let url = site.database.url.replacing(/\/\/[^@]*@/, with: "//\(role)@")
      let log = LineCollector()
      var own = site
      own.configure = {
        $0.database = ConnectionString(url)
        $0.takeoverTimeout = isEnding ? .seconds(60) : .seconds(2)
        $0.logger = collectingLogger(log)
      }
      let remaining = try await Connection.connect(site.database.connectionString)
      let process = try await Self.takeFence(remaining)
      if isEnding {
        async let served = own.serving { try await $0.get(Self.jobs).status }
        while !log.all.contains(where: { $0.contains("PostgreSQL's process \(process)") }) {
          try await pollingPause()
        }
        await remaining.close()
        #expect(try await served == 200)
      } else {
        let error = await #expect(throws: StartError.self) { try await own.serving { _ in } }
        let message = try #require(error?.message)
        #expect(message.contains("PostgreSQL's process \(process)"), "\(message)")
        #expect(message.contains("of the role lethe"), "\(message)")
        #expect(error?.remedy.contains("pg_terminate_backend(\(process))") == true)
        #expect(try await remaining.query("SELECT 1").onlyRow(as: Int.self) == 1)
        await remaining.close()
      }
      try await site.database.withConnection {
        try await $0.runScript("DROP OWNED BY \(identifier: role); DROP ROLE \(identifier: role)")
      }
    }
  }

  // MARK: Without another server

  private static func owner(_ observer: Connection) async throws -> Int32? {
    let process = try await observer.query(
      """
      SELECT pid FROM pg_locks
      WHERE locktype = 'advisory' AND objid = 0 AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      """
    ).firstRow(as: Int64.self)
    return process.flatMap { Int32(exactly: $0) }
  }

  /// The owner's session is terminated, and no other server takes over. The server continues with its jobs.
  @Test func aServerThatLosesOnlyItsSessionContinues() async throws {
    try await LocalService.withSite { site in
      let process = try await ServerProcess.serving(site)
      let service = try LocalService(site: site, process)
      let job = try await service.create()
      try await site.database.withConnection { observer in
        let first = try #require(try await Self.owner(observer))
        _ = try await observer.query("SELECT pg_terminate_backend(\(literal: first))")
        while try await [nil, first].contains(Self.owner(observer)) { try await pollingPause() }
        while try await service.get("/readyz").status != 200 { try await pollingPause() }
        let done = try await service.put("x\n", to: job.upload_url)
        #expect(done.status == 200, "\(done.text)")
      }
      #expect(await process.end(by: SIGTERM) == 0)
    }
  }

  /// The PostgreSQL process of the owner's session is stopped with SIGSTOP. The server must not treat its own old
  /// session as a session of another server.
  @Test func aServerWaitsForItsOwnHangingSession() async throws {
    try await LocalService.withSite { site in
      let log = LineCollector()
      var site = site
      site.configure = {
        $0.databaseTimeout = .seconds(5)
        $0.logger = collectingLogger(log, .debug)
      }
      try await site.serving { service in
        try await site.database.withConnection { observer in
          let first = try #require(try await Self.owner(observer))
          kill(first, SIGSTOP)
          while !log.all.contains(where: { $0.contains("the database is not available") }) {
            _ = try await service.get("/livez")
          }
          // Wait until the server has tried twice to become the owner again.
          while log.all.count(where: { $0.contains("earlier session") }) < 2 {
            _ = try await service.get("/livez")
          }
          kill(first, SIGCONT)
          while try await [nil, first].contains(Self.owner(observer)) { try await pollingPause() }
          while try await service.get("/readyz").status != 200 { try await pollingPause() }
          _ = try await service.create()
        }
      }
    }
  }
}
