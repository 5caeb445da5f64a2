import PostgreSQL
import TestSupport
import Testing

/// Tests that `abort` ends the wait for a server that accepts statements but never responds.
@Suite(.endedIfItHangs) struct ConnectionAbortTests {
  private static let uses: [@Sendable (Connection) async throws -> Void] = [
    { _ = try await $0.query("SELECT 1") },
    { try await $0.runScript("SELECT 1; SELECT 2") },
    { try await $0.withTransaction { _ in } },
    { try await $0.withCopyIn("COPY t FROM STDIN") { _ in } },
    { try await $0.withCopyOut("COPY t TO STDOUT") { for try await _ in $0 {} } },
  ]

  @Test func aStatementThatHangsEndsWithItsConnection() async throws {
    try await withOwnServer { server in
      let database = try await server.database()
      for use in Self.uses {
        for isCancelled in [false, true] {
          let connection = try await Connection.connect(database.connectionString)
          try server.freeze()
          let statement = Task { try await use(connection) }
          if isCancelled { statement.cancel() }
          connection.abort()
          await #expect {
            try await statement.value
          } throws: { error in
            let isLost = (error as? PostgreSQLError)?.code == .connectionLost
            return isCancelled ? isLost || error is CancellationError : isLost
          }
          #expect(connection.isAborted)
          await #expect(throws: (any Error).self) { _ = try await connection.query("SELECT 1") }
          await connection.close()
          try server.thaw()
        }
      }
    }
  }

  /// The server stops in the middle of a COPY, and the cancel request also hangs.
  @Test func aCopyThatHangsEndsWithItsConnection() async throws {
    try await withOwnServer { server in
      let database = try await server.database()
      let connection = try await Connection.connect(database.connectionString)
      let gate = TestGate<String>()
      let copy = Task {
        try await connection.withCopyOut(
          "COPY (SELECT generate_series(1, 100000000000)) TO STDOUT"
        ) { rows in
          for try await _ in rows { await gate.pass("a block") }
        }
      }
      try await gate.reached { $0 == "a block" }
      try server.freeze()
      copy.cancel()
      connection.abort()
      await #expect(throws: (any Error).self) { try await copy.value }
      await connection.close()
    }
  }

  @Test func connectingCanBeCancelled() async throws {
    try await withOwnServer { server in
      let database = try await server.database()
      try server.freeze()
      let connecting = Task { await (try Connection.connect(database.connectionString)).close() }
      connecting.cancel()
      await #expect(throws: CancellationError.self) { try await connecting.value }
      try server.thaw()
      try await server.recovered()
    }
  }

  @Test func anIdleConnectionCanBeAborted() async throws {
    try await withTestDatabase { database in
      let connection = try await Connection.connect(database.connectionString)
      connection.abort()
      await #expect {
        _ = try await connection.query("SELECT 1")
      } throws: {
        ($0 as? PostgreSQLError)?.code == .connectionLost
          && ($0 as? PostgreSQLError)?.isTemporary == true
      }
      await connection.close()
    }
  }
}
