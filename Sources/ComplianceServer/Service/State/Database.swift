internal import PostgreSQL
internal import ServiceLifecycle
internal import Synchronization

/// The service's database and all sessions of the service. At shutdown, the server aborts the sessions that hang.
final class Database: Sendable {
  private struct Sessions {
    /// The sessions that still exist.
    var all: [Weak] = []
    var isShutDown = false
  }

  private struct Weak {
    weak var connection: Connection?
  }

  private let connectionString: ConnectionString
  private let sessions = Mutex(Sessions())

  init(_ connectionString: ConnectionString) {
    self.connectionString = connectionString
  }

  /// - Parameters:
  ///   - name: the application name that `pg_stat_activity` shows.
  ///   - refusingPoolers: see `Connection.connect`.
  /// - Throws: `PostgreSQLError`; `CancellationError` as soon as the task is cancelled.
  func connect(as name: String, refusingPoolers: Bool = false) async throws -> Connection {
    let connection = try await Connection.connect(
      connectionString, applicationName: name, refusingPoolers: refusingPoolers)
    let isShutDown = sessions.withLock { sessions in
      sessions.all.removeAll { $0.connection == nil }
      sessions.all.append(Weak(connection: connection))
      return sessions.isShutDown
    }
    if isShutDown { connection.abort() }
    return connection
  }

  /// Runs `body` with a connection of its own. The parameters are those of `connect`.
  func withConnection<R: Sendable>(
    as name: String, refusingPoolers: Bool = false, isolation: isolated (any Actor)? = #isolation,
    _ body: (Connection) async throws -> R
  ) async throws -> R {
    let connection = try await connect(as: name, refusingPoolers: refusingPoolers)
    do {
      let value = try await body(connection)
      await connection.close()
      return value
    } catch {
      await connection.close()
      throw error
    }
  }

  /// Aborts every session, and every session that is opened later.
  func abort() {
    let all = sessions.withLock { sessions in
      sessions.isShutDown = true
      return sessions.all
    }
    for session in all { session.connection?.abort() }
  }
}

extension Connection {
  /// Runs `body`, and aborts the connection if `body` takes longer than `limit`.
  func withLimit<R: Sendable>(
    _ limit: Duration, isolation: isolated (any Actor)? = #isolation,
    _ body: (Connection) async throws -> R
  ) async throws -> R {
    let watch = Task {
      try await Task.sleep(for: limit)
      self.abort()
    }
    defer { watch.cancel() }
    return try await body(self)
  }
}

/// Aborts the database sessions when a shutdown takes too long. Otherwise a database that does not respond could
/// block the shutdown forever.
struct DatabaseShutdown: Service {
  let database: Database

  /// How long cancelled statements may take to end before their sessions are aborted. The wait is
  /// useful, because PostgreSQL could still complete the statement of an aborted session later.
  private static let gracePeriod = Duration.seconds(1)

  func run() async throws {
    do {
      try await gracefulShutdown()
    } catch {
      // This task is not awaited, because normally the process ends earlier.
      Task { [database] in
        try await Task.sleep(for: Self.gracePeriod)
        database.abort()
      }
    }
  }
}
