internal import PostgreSQL

/// A few connections that requests take turns on.
///
/// A connection is made when one is needed and none is idle, so the server starts answering again by
/// itself once a database that went away is back.
actor ConnectionPool {
  private let database: ConnectionString
  private var idle: [Connection] = []
  private var free: Int
  private var waiting: [CheckedContinuation<Void, Never>] = []

  init(_ database: ConnectionString, connectionsMax: Int) {
    self.database = database
    free = connectionsMax
  }

  /// Lends a connection for the length of `body`, which must leave no transaction open.
  nonisolated func withConnection<R: Sendable>(
    _ body: @Sendable (Connection) async throws -> R
  ) async throws -> R {
    let connection = try await take()
    do {
      let value = try await body(connection)
      await giveBack(connection)
      return value
    } catch let error as PostgreSQLError where error.code == .connectionLost {
      await discard(connection)
      throw error
    } catch {
      await giveBack(connection)
      throw error
    }
  }

  func close() async {
    let connections = idle
    idle = []
    for connection in connections { await connection.close() }
  }

  private func take() async throws -> Connection {
    if free > 0 {
      free -= 1
    } else {
      // Whoever gives back hands its place on, so it is ours when this returns.
      await withCheckedContinuation { waiting.append($0) }
    }
    if let connection = idle.popLast() { return connection }
    do {
      let connection = try await Connection.connect(
        database, applicationName: "compliance-server")
      // These statements take milliseconds. One that does not must not hold requests up for ever.
      try await connection.execute("SET statement_timeout = '30s'")
      return connection
    } catch {
      leave()
      throw error
    }
  }

  private func giveBack(_ connection: Connection) {
    idle.append(connection)
    leave()
  }

  /// What broke this connection has most likely broken the others.
  private func discard(_ connection: Connection) async {
    leave()
    await close()
    await connection.close()
  }

  private func leave() {
    if waiting.isEmpty {
      free += 1
    } else {
      waiting.removeFirst().resume()
    }
  }
}
