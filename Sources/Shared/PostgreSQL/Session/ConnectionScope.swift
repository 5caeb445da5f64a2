/// Connections that end with a piece of work.
extension Connection {
  /// Runs `body` with a new connection, and then closes the connection. The parameters are those of `connect`. If the
  /// task is cancelled and `body` does not end soon, for example because the server does not respond, the connection is
  /// aborted.
  public static func withConnection<R: Sendable>(
    _ connectionString: ConnectionString, applicationName: String = "lethe",
    refusingPoolers: Bool = false, isolation: isolated (any Actor)? = #isolation,
    _ body: (Connection) async throws -> R
  ) async throws -> R {
    let connection = try await connect(
      connectionString, applicationName: applicationName, refusingPoolers: refusingPoolers)
    do {
      let result = try await withTaskCancellationHandler {
        try await body(connection)
      } onCancel: {
        connection.abortSoon()
      }
      await connection.close()
      return result
    } catch {
      await connection.close()
      throw error
    }
  }

  /// How long cancelled statements may take to end.
  private static let gracePeriod = Duration.seconds(2)

  /// Aborts the connection after a grace period, unless it is closed by then. This is for a server that does not
  /// respond, not even to the request to cancel a statement. Returns at once.
  public nonisolated func abortSoon() {
    Task { [weak self] in
      try await Task.sleep(for: Self.gracePeriod)
      self?.abort()
    }
  }
}
