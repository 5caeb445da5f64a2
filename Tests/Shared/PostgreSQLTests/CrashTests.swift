import PostgreSQL
import TestSupport
import Testing

/// Tests that, after a server crash, each use of a connection fails with `.connectionLost`.
@Suite struct CrashTests {
  private static let uses: [@Sendable (Connection) async throws -> Void] = [
    { _ = try await $0.query("SELECT 1") },
    { try await $0.runScript("SELECT 1; SELECT 2") },
    { try await $0.withTransaction { _ in } },
    { try await $0.withCopyIn("COPY t FROM STDIN") { _ in } },
    { try await $0.withCopyOut("COPY t TO STDOUT") { for try await _ in $0 {} } },
  ]

  @Test func aCrashOfTheServerIsALostConnection() async throws {
    try await withOwnServer { server in
      let database = try await server.database()
      try await database.withConnection { try await $0.runScript("CREATE TABLE t (x int)") }
      var idle: [Connection] = []
      for _ in Self.uses { idle.append(try await Connection.connect(database.connectionString)) }
      let open = try await Connection.connect(database.connectionString)
      await #expect {
        try await open.withTransaction { transaction in
          _ = try await transaction.query("SELECT 1")
          try await server.crash()
          try await server.recovered()
          _ = try await transaction.query("SELECT 1")
        }
      } throws: {
        Self.isLoss($0)
      }
      for (connection, use) in zip(idle, Self.uses) {
        for _ in 1...2 {
          await #expect {
            try await use(connection)
          } throws: {
            Self.isLoss($0)
          }
        }
        await connection.close()
      }
    }
  }

  private static func isLoss(_ error: any Error) -> Bool {
    guard let error = error as? PostgreSQLError else { return false }
    return error.code == .connectionLost && error.isTemporary
  }
}
