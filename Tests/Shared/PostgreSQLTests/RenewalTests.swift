import PostgreSQL
import Synchronization
import TestSupport
import Testing

/// Connections that replace a session that is lost or was idle for too long.
@Suite(.endedIfItHangs) struct RenewalTests {
  private static func session(of connection: Connection) async throws -> Int {
    try await connection.query("SELECT pg_backend_pid()").onlyRow(as: Int.self)
  }

  private static func terminate(
    _ session: Int, in database: TestDatabase
  ) async throws {
    try await database.withConnection {
      _ = try await $0.query("SELECT pg_terminate_backend(\(session), 10000)")
    }
  }

  /// Ways to begin work on a connection.
  private static let uses: [@Sendable (Connection) async throws -> Void] = [
    { _ = try await $0.query("SELECT 1") },
    { try await $0.runScript("SELECT 1; SELECT 2") },
    { try await $0.withTransaction { _ = try await $0.query("SELECT 1") } },
    { try await $0.withEnclosingTransaction {} },
    { try await $0.withCopyIn("COPY t FROM STDIN") { _ in } },
    { try await $0.withCopyOut("COPY (SELECT 1) TO STDOUT") { for try await _ in $0 {} } },
  ]

  @Test func aLostSessionIsReplacedAtTheNextStatement() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { try await $0.runScript("CREATE TABLE t (x int)") }
      let opened = Mutex(0)
      let connection = try await Connection.connect(
        database.connectionString, renewedAfter: .seconds(3600)
      ) {
        _ = try await $0.query("SELECT set_config('lethe.prepared', 'yes', false)")
        opened.withLock { $0 += 1 }
      }
      for use in Self.uses {
        let session = try await Self.session(of: connection)
        try await Self.terminate(session, in: database)
        try await use(connection)
        #expect(try await Self.session(of: connection) != session)
        #expect(
          try await connection.query(
            "SELECT current_setting('lethe.prepared'), current_setting('TimeZone')"
          ).onlyRow(as: String.self, String.self) == ("yes", "UTC"))
      }
      #expect(await connection.sessions == Self.uses.count + 1)
      #expect(opened.withLock { $0 } == Self.uses.count + 1)
      await connection.close()
      await #expect(throws: PostgreSQLError.self) { try await connection.execute("SELECT 1") }
    }
  }

  /// The statement and `close` run at the same time, so the session can be closed while a new one is opened.
  @Test func aConnectionThatIsClosedDuringARenewalStaysClosed() async throws {
    try await withTestDatabase { database in
      for _ in 1...30 {
        let connection = try await Connection.connect(
          database.connectionString, renewedAfter: .zero)
        async let result = connection.query("SELECT 1")
        await Task.yield()
        await connection.close()
        _ = try? await result
        await #expect(throws: PostgreSQLError.self) { try await connection.execute("SELECT 1") }
      }
    }
  }

  @Test func anIdleSessionIsReplacedBeforeTheNextStatement() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { try await $0.runScript("CREATE TABLE t (x int)") }
      let connection = try await Connection.connect(
        database.connectionString, renewedAfter: .zero)
      for use in Self.uses {
        let session = try await Self.session(of: connection)
        try await Self.terminate(session, in: database)
        try await use(connection)
      }
      await connection.close()
    }
  }

  @Test func aTransactionIsNeverContinuedInAnotherSession() async throws {
    try await withTestDatabase { database in
      let connection = try await Connection.connect(
        database.connectionString, renewedAfter: .zero)
      await #expect {
        try await connection.withTransaction { transaction in
          let session = try await transaction.query("SELECT pg_backend_pid()").onlyRow(as: Int.self)
          try await Self.terminate(session, in: database)
          try await transaction.execute("SELECT 1")
        }
      } throws: {
        ($0 as? PostgreSQLError)?.isLossOfSession == true
      }
      #expect(try await connection.query("SELECT 1").onlyRow(as: Int.self) == 1)
      await connection.close()
    }
  }

  /// Several tasks use the connection while it gets a new session.
  @Test func concurrentStatementsWaitForTheNewSession() async throws {
    try await withTestDatabase { database in
      let connection = try await Connection.connect(
        database.connectionString, renewedAfter: .zero
      ) { _ = try await $0.query("SELECT set_config('lethe.prepared', 'yes', false)") }
      try await withThrowingTaskGroup(of: String.self) { group in
        for _ in 1...50 {
          group.addTask {
            try await connection.query("SELECT current_setting('lethe.prepared')")
              .onlyRow(as: String.self)
          }
        }
        for try await setting in group { #expect(setting == "yes") }
      }
      await connection.close()
    }
  }

  @Test func cancellingAndAbortingWorkInTheNewSession() async throws {
    try await withTestDatabase { database in
      let connection = try await Connection.connect(
        database.connectionString, renewedAfter: .zero)
      try await Self.terminate(try await Self.session(of: connection), in: database)
      let statement = Task { try await connection.execute("SELECT pg_sleep(600)") }
      while try await database.withConnection({
        try await $0.query(
          "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%'"
        ).onlyRow(as: Int.self)
      }) == 0 { try await pollingPause() }
      statement.cancel()
      await #expect(throws: CancellationError.self) { try await statement.value }
      connection.abort()
      await #expect(throws: PostgreSQLError.self) { try await connection.execute("SELECT 1") }
    }
  }
}
