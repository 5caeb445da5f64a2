internal import PostgreSQL

/// A few connections that requests take turns on.
///
/// A connection is made when one is needed and none is idle, so the server starts answering again by
/// itself once a database that went away is back.
actor ConnectionPool {
  /// A connection that is lent.
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
  /// Connections of an earlier one are not lent any more.
  private var generation = 0

  /// - Parameters:
  ///   - limit: how long a connection is waited for and lent at most, unless somebody says otherwise.
  ///   - connect: makes a connection.
  init(
    connectionsMax: Int, limit: Duration, connect: @escaping @Sendable () async throws -> Connection
  ) {
    self.connect = connect
    self.limit = limit
    free = connectionsMax
  }

  /// Lends a connection for the length of `body`, which must leave no transaction open.
  ///
  /// - Parameter limit: a connection that is not to be had, or that `body` has not done with, within this
  ///   time is given up.
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

  /// Has every connection be made anew, those that are lent as soon as they come back.
  func renew() async {
    generation += 1
    await close()
  }

  // MARK: Lending

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
          code: .connectionFailed, message: "no connection to PostgreSQL was to be had in time")
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

  /// One may have been given up just when it came back.
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
      // Whoever gives back hands its place on, so it is ours when this returns.
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
      waiting.removeFirst().goOn.resume()
    }
  }
}
