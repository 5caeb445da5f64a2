import PostgreSQL
import Synchronization

/// Runs `body` with a new connection, and aborts the connection if this takes longer than `limit` or the task is
/// cancelled. A server may hang without closing its connections.
/// - Throws: `PostgreSQLError` `.connectionLost` after `limit`; the errors of `Connection.withConnection` and of
///   `body`.
func withBriefConnection<R: Sendable>(
  _ warehouse: ConnectionString, limit: Duration,
  _ body: @escaping @Sendable (Connection) async throws -> R
) async throws -> R {
  try await within(limit) {
    try await Connection.withConnection(warehouse) { connection in
      try await connection.abortedOnCancellation { try await body(connection) }
    }
  }
}

/// Runs `body`, and cancels it if it takes longer than `limit`.
/// - Throws: `PostgreSQLError` `.connectionLost` after `limit`; the errors of `body`.
func within<R: Sendable>(
  _ limit: Duration, _ body: @escaping @Sendable () async throws -> R
) async throws -> R {
  try await withThrowingTaskGroup(of: R.self) { group in
    group.addTask(operation: body)
    group.addTask {
      try await Task.sleep(for: limit)
      throw PostgreSQLError(
        code: .connectionLost, message: "the server did not respond within \(limit)")
    }
    defer { group.cancelAll() }
    guard let result = try await group.next() else { throw CancellationError() }
    return result
  }
}

extension Connection {
  /// Runs `body`, and aborts the connection at once if the task is cancelled.
  nonisolated func abortedOnCancellation<R: Sendable>(
    _ body: @Sendable () async throws -> R
  ) async throws -> R {
    try await withTaskCancellationHandler(operation: body) { abort() }
  }
}

/// The open connections of a process. They can be aborted together.
final class OpenConnections: Sendable {
  private struct Weak {
    weak var connection: Connection?
  }

  private let all = Mutex<[Weak]>([])

  func add(_ connection: Connection) {
    all.withLock { all in
      all.removeAll { $0.connection == nil }
      all.append(Weak(connection: connection))
    }
  }

  /// Aborts them soon, as `Connection.abortSoon` does.
  func abortSoon() {
    for each in all.withLock({ $0 }) { each.connection?.abortSoon() }
  }
}
