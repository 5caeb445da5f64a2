public import CrashPoints
public import PostgreSQL

/// Transactions and statements whose commit is a crash point.
extension Connection {
  /// Runs `body` in a transaction, as `withTransaction` does. The step's crash points are directly before COMMIT is
  /// sent and directly after the server has acknowledged it.
  public func withTransaction<R: Sendable>(
    recording step: CrashStep, isolation: isolated (any Actor)? = #isolation,
    _ body: (Transaction) async throws -> R
  ) async throws -> R {
    let value = try await withTransaction { transaction in
      let value = try await body(transaction)
      step.reached(.before)
      return value
    }
    step.reached(.after)
    return value
  }
}

extension Session {
  /// Runs a statement that is its own transaction.
  @discardableResult
  func execute(recording step: CrashStep, _ sql: SQL) async throws -> Int {
    try await step.around { try await execute(sql) }
  }
}

extension ChunkQueries {
  /// Runs an update that must change exactly one row, and that is its own transaction.
  /// - Throws: `LedgerError` (`.leaseLost`) if it does not.
  static func guarded(
    _ session: some Session, _ what: String, recording step: CrashStep, _ sql: SQL
  ) async throws {
    try await step.around { try await guarded(session, what, sql) }
  }
}

extension Resource {
  /// The step in which a process tries to lease the resource. Another process may have it.
  var claimStep: CrashStep {
    switch self {
    case .export: .exportLeased
    case .slot: .slotLeased
    case .chunk: .chunkLeased
    case .apply: .applyLeased
    case .settlement: .settlementLeased
    }
  }

  /// The step in which a process releases the resource.
  var releaseStep: CrashStep {
    switch self {
    case .export: .exportReleased
    case .slot: .slotReleased
    case .chunk: .chunkReleased
    case .apply: .applyReleased
    case .settlement: .settlementReleased
    }
  }
}
