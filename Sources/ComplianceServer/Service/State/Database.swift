internal import PostgreSQL
internal import ServiceLifecycle
internal import Synchronization

/// The service's database, and all of its sessions with it: a server that has to end gives up those that hang.
final class Database: Sendable {
  private struct Sessions {
    /// Those that were made, unless they are gone.
    var made: [Weak] = []
    var areOver = false
  }

  private struct Weak {
    weak var connection: Connection?
  }

  private let connectionString: ConnectionString
  private let sessions = Mutex(Sessions())

  init(_ connectionString: ConnectionString) {
    self.connectionString = connectionString
  }

  /// - Parameter name: what `pg_stat_activity` shows.
  /// - Throws: `PostgreSQLError`; `CancellationError` as soon as the task is cancelled.
  func connect(as name: String) async throws -> Connection {
    let connection = try await Connection.connect(connectionString, applicationName: name)
    let isOver = sessions.withLock { sessions in
      sessions.made.removeAll { $0.connection == nil }
      sessions.made.append(Weak(connection: connection))
      return sessions.areOver
    }
    if isOver { connection.sever() }
    return connection
  }

  /// Connects for the length of `body`.
  func withConnection<R: Sendable>(
    as name: String, isolation: isolated (any Actor)? = #isolation,
    _ body: (Connection) async throws -> R
  ) async throws -> R {
    let connection = try await connect(as: name)
    do {
      let value = try await body(connection)
      await connection.close()
      return value
    } catch {
      await connection.close()
      throw error
    }
  }

  /// Gives up every session, and those that are still to be made.
  func sever() {
    let made = sessions.withLock { sessions in
      sessions.areOver = true
      return sessions.made
    }
    for session in made { session.connection?.sever() }
  }
}

extension Connection {
  /// Runs `body`, and gives the connection up if it takes longer.
  func withLimit<R: Sendable>(
    _ limit: Duration, isolation: isolated (any Actor)? = #isolation,
    _ body: (Connection) async throws -> R
  ) async throws -> R {
    let watch = Task {
      try await Task.sleep(for: limit)
      sever()
    }
    defer { watch.cancel() }
    return try await body(self)
  }
}

/// Gives the database's sessions up once the server has waited for its requests for long enough: a database
/// that does not answer must not keep it from its end.
struct DatabaseEnd: Service {
  let database: Database

  /// How long statements that were cancelled may take to end, so that nothing of them is done later.
  private static let patience = Duration.seconds(1)

  func run() async throws {
    do {
      try await gracefulShutdown()
    } catch {
      // Not waited for: most servers have ended by then.
      Task { [database] in
        try await Task.sleep(for: Self.patience)
        database.sever()
      }
    }
  }
}
