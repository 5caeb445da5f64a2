import PostgreSQL
import TestSupport
import Testing

@Suite(.endedIfItHangs) struct PoolerTests {
  private static let keepingNoSession: [Pooler.Configuration] = [
    Pooler.Mode.transaction, .statement,
  ].flatMap { mode in
    [1, 2, 20].flatMap { sessions in
      [false, true].map { .init(mode, sessionsMax: sessions, isRoundRobin: $0) }
    }
  }

  /// Opens a connection as a program opens its first one.
  private static func connect(to url: String) async throws {
    try await Connection.connect(ConnectionString(url), refusingPoolers: true).close()
  }

  private static func expectRefusal(of url: String) async {
    let error = await #expect(throws: PostgreSQLError.self) { try await connect(to: url) }
    #expect(error?.code == .unusableSession)
    #expect(error?.message.contains("PgBouncer") == true)
    #expect(error?.remedy.contains("pool_mode = session") == true)
  }

  /// Makes the pooler open `count` sessions: `count` statements wait for one lock at the same time.
  private static func openSessions(
    _ count: Int, of database: TestDatabase, _ pooler: Pooler
  ) async throws {
    try await database.withConnection { direct in
      try await direct.execute("SELECT pg_advisory_lock(1)")
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<count {
          group.addTask {
            try await Connection.withConnection(ConnectionString(pooler.url(of: database))) {
              _ = try await $0.execute("SELECT pg_advisory_xact_lock_shared(1)")
            }
          }
        }
        while try await direct.query(
          """
          SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          """
        ).onlyRow(as: Int.self) < count { try await pollingPause() }
        try await direct.execute("SELECT pg_advisory_unlock(1)")
        try await group.waitForAll()
      }
    }
  }

  @Test(arguments: keepingNoSession)
  func aPoolerThatKeepsNoSessionIsRefused(_ configuration: Pooler.Configuration) async throws {
    try await withTestDatabase { database in
      try await Pooler.serving(configuration) { pooler in
        // The pooler has first no session, then one, and then all.
        for _ in 1...3 { await Self.expectRefusal(of: pooler.url(of: database)) }
        try await Self.openSessions(configuration.sessionsMax, of: database, pooler)
        for _ in 1...3 { await Self.expectRefusal(of: pooler.url(of: database)) }
      }
    }
  }

  @Test(arguments: keepingNoSession)
  func aPoolerThatKeepsNoSessionIsRefusedWhileOthersUseIt(_ configuration: Pooler.Configuration)
    async throws
  {
    try await withTestDatabase { database in
      try await Pooler.serving(configuration) { pooler in
        try await withThrowingTaskGroup(of: Void.self) { group in
          for _ in 1...4 {
            group.addTask {
              try await Connection.withConnection(ConnectionString(pooler.url(of: database))) {
                while !Task.isCancelled { _ = try await $0.query("SELECT 1") }
              }
            }
          }
          for _ in 1...10 { await Self.expectRefusal(of: pooler.url(of: database)) }
          group.cancelAll()
          while let result = await group.nextResult() {
            if case .failure(let error) = result, !(error is CancellationError) { throw error }
          }
        }
      }
    }
  }

  @Test func aPoolerThatKeepsNoSessionIsRefusedForEveryFormOfTheConnectionString() async throws {
    try await withTestDatabase { database in
      try await Pooler.serving(.init(.transaction)) { pooler in
        let (host, port) = (pooler.address.host, pooler.address.port)
        let nobody = LoopbackAddress.random()
        for string in [
          pooler.url(of: database, at: nobody, pooler.address),
          pooler.url(of: database, at: pooler.address, nobody),
          "host=localhost hostaddr=\(host) port=\(port) dbname=\(database.name) user=anybody",
          """
          host=first,second hostaddr=\(nobody.host),\(host) port=\(nobody.port),\(port) \
          dbname=\(database.name) user=anybody target_session_attrs=read-write
          """,
        ] { await Self.expectRefusal(of: string) }
      }
    }
  }

  /// The second connection reaches another pooler than the first.
  @Test func twoPoolersBehindOneAddressAreRefused() async throws {
    try await withTestDatabase { database in
      try await Pooler.serving(.init(.transaction)) { first in
        try await Pooler.serving(.init(.transaction)) { second in
          try await withTemporaryDirectory { directory in
            let address = LoopbackAddress.random()
            let targets = [first, second].map { "\($0.address)" }
            try await TCPBalancer.serving(targets, at: address, in: directory) {
              for _ in 1...5 { await Self.expectRefusal(of: first.url(of: database, at: address)) }
            }
          }
        }
      }
    }
  }

  @Test func aServerBehindATCPProxyIsAccepted() async throws {
    try await withTestDatabase { database in
      try await withTemporaryDirectory { directory in
        let address = LoopbackAddress.random()
        try await TCPBalancer.serving([database.socket], at: address, in: directory) {
          for _ in 1...5 {
            try await Self.connect(
              to: "host=\(address.host) port=\(address.port) dbname=\(database.name) user=lethe")
          }
        }
      }
    }
  }

  @Test(arguments: [1, 2, 20], [false, true])
  func aPoolerThatKeepsTheSessionIsAccepted(sessionsMax: Int, isRoundRobin: Bool) async throws {
    let configuration = Pooler.Configuration(
      .session, sessionsMax: sessionsMax, isRoundRobin: isRoundRobin)
    try await withTestDatabase { database in
      try await Pooler.serving(configuration) { pooler in
        for _ in 1...3 { try await Self.connect(to: pooler.url(of: database)) }
        try await Self.openSessions(sessionsMax, of: database, pooler)
        for _ in 1...3 { try await Self.connect(to: pooler.url(of: database)) }
      }
    }
  }

  /// Without a reset, a later client finds the settings of an earlier one.
  @Test func aSessionThatIsNotResetIsAccepted() async throws {
    let configuration = Pooler.Configuration(.session, sessionsMax: 2, resetQuery: "")
    try await withTestDatabase { database in
      try await Pooler.serving(configuration) { pooler in
        for _ in 1...10 { try await Self.connect(to: pooler.url(of: database)) }
      }
    }
  }

  @Test func aRoleWithOneConnectionIsAccepted() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let role = "\(database.name)_one"
        try await connection.execute("CREATE ROLE \(identifier: role) LOGIN CONNECTION LIMIT 1")
        do {
          for _ in 1...3 {
            let url = database.url.replacing(/\/\/[^@]*@/, with: "//\(role)@")
            try await Self.connect(to: url)
            // The server ends a session after the client has closed it.
            while try await connection.query(
              "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = \(role))"
            ).onlyRow(as: Bool.self) { try await pollingPause() }
          }
          try await connection.execute("DROP ROLE \(identifier: role)")
        } catch {
          _ = try? await connection.execute("DROP ROLE \(identifier: role)")
          throw error
        }
      }
    }
  }

  /// PgBouncer refuses `options`, unless its setting `ignore_startup_parameters` contains it.
  @Test func aStartupParameterThatThePoolerDoesNotKnowIsExplained() async throws {
    try await withTestDatabase { database in
      try await Pooler.serving(.init(.session)) { pooler in
        let url = pooler.url(of: database) + "?options=-c%20work_mem%3D64MB"
        let error = await #expect(throws: PostgreSQLError.self) {
          try await Connection.connect(ConnectionString(url))
        }
        #expect(error?.remedy.contains("ignore_startup_parameters") == true)
        #expect(error.map { !"\($0)".contains(Pooler.password) } == true)
      }
    }
  }
}
