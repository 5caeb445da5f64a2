internal import PostgreSQL

/// A pool of a few connections that requests share.
///
/// The pool opens a connection when a request needs one and none is idle. So the server recovers by itself when the
/// database is available again.
actor ConnectionPool {
  /// A connection in use.
  private struct Lease: Sendable {
    let connection: Connection
    let generation: Int
  }

  private let connect: @Sendable () async throws -> Connection
  private let limit: Duration
  private var idle: [Connection] = []
  private var freeSlots: Int
  private var waiting: [(ticket: Int, continuation: CheckedContinuation<Void, any Error>)] = []
  private var lastTicket = 0
  /// Connections of an earlier generation are closed when they are released.
  private var generation = 0

  /// - Parameters:
  ///   - limit: the default limit on waiting for a connection and using it.
  ///   - connect: opens a connection.
  init(
    connectionsMax: Int, limit: Duration, connect: @escaping @Sendable () async throws -> Connection
  ) {
    self.connect = connect
    self.limit = limit
    freeSlots = connectionsMax
  }

  /// Runs `body` with a connection. `body` must end every transaction that it begins.
  ///
  /// - Parameter limit: the time limit for both the wait for a connection and `body`. After this time, the wait ends
  ///   with an error, or the connection is aborted.
  nonisolated func withConnection<R: Sendable>(
    within limit: Duration? = nil, _ body: @Sendable (Connection) async throws -> R
  ) async throws -> R {
    let deadline = ContinuousClock.now + (limit ?? self.limit)
    let lease = try await lease(by: deadline)
    do {
      let value = try await lease.connection.withLimit(deadline - .now) { try await body($0) }
      await release(lease)
      return value
    } catch let error as PostgreSQLError where error.code == .connectionLost || error.isOnStandby {
      await discard(lease.connection)
      throw error
    } catch {
      await release(lease)
      throw error
    }
  }

  func close() async {
    let connections = idle
    idle = []
    for connection in connections { await connection.close() }
  }

  /// Closes every connection: idle connections now, other connections when they are released.
  func renew() async {
    generation += 1
    await close()
  }

  // MARK: Leases

  private nonisolated func lease(by deadline: ContinuousClock.Instant) async throws -> Lease {
    if let lease = await leaseIdle() { return lease }
    let leasing = Task { try await self.leaseNew() }
    let watch = Task {
      try await Task.sleep(until: deadline, clock: .continuous)
      leasing.cancel()
    }
    defer { watch.cancel() }
    return try await withTaskCancellationHandler {
      do {
        return try await leasing.value
      } catch is CancellationError {
        try Task.checkCancellation()
        throw PostgreSQLError(
          code: .connectionFailed, message: "no connection to PostgreSQL became free in time")
      }
    } onCancel: {
      leasing.cancel()
    }
  }

  private func leaseIdle() -> Lease? {
    guard freeSlots > 0, let connection = popIdle() else { return nil }
    freeSlots -= 1
    return Lease(connection: connection, generation: generation)
  }

  /// Returns an idle connection that can be used. An aborted connection can be idle if its time limit expired at
  /// the moment of its release.
  private func popIdle() -> Connection? {
    while let connection = idle.popLast() {
      if !connection.isAborted { return connection }
    }
    return nil
  }

  private func leaseNew() async throws -> Lease {
    if freeSlots > 0 {
      freeSlots -= 1
    } else {
      // `releaseSlot` gives the slot to this caller, so `freeSlots` does not change.
      try await waitForSlot()
    }
    if let connection = popIdle() { return Lease(connection: connection, generation: generation) }
    let generation = generation
    do {
      return Lease(connection: try await connect(), generation: generation)
    } catch {
      releaseSlot()
      throw error
    }
  }

  private func waitForSlot() async throws {
    lastTicket += 1
    let ticket = lastTicket
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, _>) in
        guard !Task.isCancelled else { return continuation.resume(throwing: CancellationError()) }
        waiting.append((ticket: ticket, continuation: continuation))
      }
    } onCancel: {
      Task { await self.stopWaiting(ticket) }
    }
  }

  private func stopWaiting(_ ticket: Int) {
    guard let index = waiting.firstIndex(where: { $0.ticket == ticket }) else { return }
    waiting.remove(at: index).continuation.resume(throwing: CancellationError())
  }

  private func release(_ lease: Lease) async {
    guard lease.generation == generation, !lease.connection.isAborted else {
      releaseSlot()
      return await lease.connection.close()
    }
    idle.append(lease.connection)
    releaseSlot()
  }

  /// Closes a broken connection and the idle connections, which are probably broken for the same reason.
  private func discard(_ connection: Connection) async {
    releaseSlot()
    await close()
    await connection.close()
  }

  private func releaseSlot() {
    if waiting.isEmpty {
      freeSlots += 1
    } else {
      waiting.removeFirst().continuation.resume()
    }
  }
}
