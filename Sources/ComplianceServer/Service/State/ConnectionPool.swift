internal import PostgreSQL

/// A pool of a few connections that requests share.
///
/// It connects when a request needs a connection and none is idle. So the server recovers by itself when a database
/// that was down is back.
actor ConnectionPool {
  /// A connection in use.
  private struct Loan: Sendable {
    let connection: Connection
    let generation: Int
  }

  private let connect: @Sendable () async throws -> Connection
  private let limit: Duration
  private var idle: [Connection] = []
  private var free: Int
  private var waiting: [(number: Int, goOn: CheckedContinuation<Void, any Error>)] = []
  private var lastNumber = 0
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
    free = connectionsMax
  }

  /// Runs `body` with a connection. `body` must leave no transaction open.
  ///
  /// - Parameter limit: how long waiting for the connection and running `body` may take together. After this time, the
  ///   wait ends with an error, or the connection is severed.
  nonisolated func withConnection<R: Sendable>(
    within limit: Duration? = nil, _ body: @Sendable (Connection) async throws -> R
  ) async throws -> R {
    let giveUpAt = ContinuousClock.now + (limit ?? self.limit)
    let loan = try await loan(by: giveUpAt)
    do {
      let value = try await loan.connection.withLimit(giveUpAt - .now) { try await body($0) }
      await giveBack(loan)
      return value
    } catch let error as PostgreSQLError where error.code == .connectionLost {
      await discard(loan.connection)
      throw error
    } catch {
      await giveBack(loan)
      throw error
    }
  }

  func close() async {
    let connections = idle
    idle = []
    for connection in connections { await connection.close() }
  }

  /// Closes every connection: idle ones now, the others when they are released.
  func renew() async {
    generation += 1
    await close()
  }

  // MARK: Leases

  private nonisolated func loan(by giveUpAt: ContinuousClock.Instant) async throws -> Loan {
    if let loan = await loanOfIdle() { return loan }
    let taking = Task { try await self.take() }
    let watch = Task {
      try await Task.sleep(until: giveUpAt, clock: .continuous)
      taking.cancel()
    }
    defer { watch.cancel() }
    return try await withTaskCancellationHandler {
      do {
        return try await taking.value
      } catch is CancellationError {
        try Task.checkCancellation()
        throw PostgreSQLError(
          code: .connectionFailed, message: "no connection to PostgreSQL became free in time")
      }
    } onCancel: {
      taking.cancel()
    }
  }

  private func loanOfIdle() -> Loan? {
    guard free > 0, let connection = popIdle() else { return nil }
    free -= 1
    return Loan(connection: connection, generation: generation)
  }

  /// An idle connection may be severed: its time limit can expire at the moment of its release.
  private func popIdle() -> Connection? {
    while let connection = idle.popLast() {
      if !connection.isSevered { return connection }
    }
    return nil
  }

  private func take() async throws -> Loan {
    if free > 0 {
      free -= 1
    } else {
      // `releaseSlot` passes the slot on to this caller, so `free` does not change.
      try await turn()
    }
    if let connection = popIdle() { return Loan(connection: connection, generation: generation) }
    let generation = generation
    do {
      return Loan(connection: try await connect(), generation: generation)
    } catch {
      leave()
      throw error
    }
  }

  private func turn() async throws {
    lastNumber += 1
    let number = lastNumber
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, _>) in
        guard !Task.isCancelled else { return continuation.resume(throwing: CancellationError()) }
        waiting.append((number: number, goOn: continuation))
      }
    } onCancel: {
      Task { await self.stopWaiting(number) }
    }
  }

  private func stopWaiting(_ number: Int) {
    guard let place = waiting.firstIndex(where: { $0.number == number }) else { return }
    waiting.remove(at: place).goOn.resume(throwing: CancellationError())
  }

  private func giveBack(_ loan: Loan) async {
    guard loan.generation == generation, !loan.connection.isSevered else {
      leave()
      return await loan.connection.close()
    }
    idle.append(loan.connection)
    leave()
  }

  /// Closes the idle connections, too: most likely they are broken for the same reason.
  private func discard(_ connection: Connection) async {
    leave()
    await close()
    await connection.close()
  }

  private func leave() {
    if waiting.isEmpty {
      free += 1
    } else {
      waiting.removeFirst().goOn.resume()
    }
  }
}
