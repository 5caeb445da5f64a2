import ComplianceAPI
import Failures
import Ledger
import Logging
import PostgreSQL
import SubmitStage
import Vocabulary

/// The leases of this process could not be renewed before they expired, because the database was out of reach.
struct LeaseNotRenewed: ExplainedError {
  let why: PostgreSQLError

  var message: String {
    "the lease of this process has expired, and could not be renewed: \(why.messageWithoutValues)"
  }
  var remedy: String {
    "run again when the database is available: nothing is lost, and the run continues where it stopped"
  }
  var disposition: Disposition { .temporary }
}

/// Keeps the leases of this process: renews them while the process works, and stops its work when they are lost.
///
/// Each renewal uses a new session, because a session that is idle between two renewals could be dropped unnoticed.
actor LeaseKeeper: CallPermit, LeaseStatus {
  nonisolated let ledger: WorkerLedger
  private nonisolated let warehouse: ConnectionString
  private let logger: Logger
  /// Until when no other worker can take over from this one, by this machine's clock, which also counts the time in
  /// which the process or the machine is suspended.
  private var safeUntil: ContinuousClock.Instant

  private var isLost = false

  /// A renewal that fails is tried again several times before the lease expires.
  private static let renewalsPerLease = 6
  /// How long the end of a process waits for the ledger's answer.
  private static let askingMax = Duration.seconds(2)
  private static let retryDelay = Duration.seconds(1)

  init(_ ledger: WorkerLedger, on warehouse: ConnectionString, logger: Logger) {
    (self.ledger, self.warehouse, self.logger) = (ledger, warehouse, logger)
    safeUntil = .now + .seconds(ledger.seconds)
  }

  /// Runs `body`, and cancels it when the leases are lost.
  /// - Throws: `LedgerError` `.leaseLost`; `LeaseNotRenewed`; what `body` throws.
  func keep<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) async throws -> R {
    try await withThrowingTaskGroup(of: R?.self) { group in
      group.addTask {
        do {
          return try await body()
        } catch {
          // A successor may have removed files or ended sessions. Then the lost lease is the reason of the error.
          try await self.rethrowIfLost(error)
        }
      }
      group.addTask {
        try await self.renewAgainAndAgain()
        return nil
      }
      defer { group.cancelAll() }
      while let result = try await group.next() {
        if let result { return result }
      }
      throw CancellationError()
    }
  }

  func isLostByNow() async -> Bool {
    if !isLost { await uncancelled(limit: Self.askingMax) { try? await self.renew() } }
    return isLost
  }

  private func rethrowIfLost(_ error: any Error) async throws -> Never {
    do {
      try await renew()
    } catch let lost as LedgerError where lost.code == .leaseLost {
      throw lost
    } catch {}
    throw error
  }

  /// Looks at the leases in the ledger, directly before a call that changes something at the API.
  func requireCallsAllowed() async throws {
    try await renew()
  }

  /// A connection whose sessions are marked, so that a process that takes over can terminate them.
  /// - Parameter onOpen: runs in each new session.
  nonisolated func connect(
    renewedAfter idleMax: Duration, onOpen: @escaping @Sendable (Connection) async throws -> Void
  ) async throws -> Connection {
    try await Connection.connect(warehouse, renewedAfter: idleMax) { [ledger] connection in
      try await ledger.mark(connection)
      try await onOpen(connection)
    }
  }

  /// Whether an attempt of the ledger uses a job of the API. Without an answer of the database, it counts as used.
  nonisolated func isRecorded(_ apiID: String) async -> Bool {
    do {
      return try await Connection.withConnection(warehouse) {
        try await ChunkLedger.isRecorded(apiID, on: $0)
      }
    } catch {
      return true
    }
  }

  private func renewAgainAndAgain() async throws {
    let interval = Duration.seconds(ledger.seconds) / Self.renewalsPerLease
    var delay = interval
    while true {
      try await Task.sleep(for: delay)
      do {
        try await renew()
        delay = interval
      } catch let error as PostgreSQLError where error.isTemporary {
        guard ContinuousClock.now < safeUntil else { throw LeaseNotRenewed(why: error) }
        logger.debug("the lease was not renewed: \(error.messageWithoutValues)")
        delay = Self.retryDelay
      }
    }
  }

  private func renew() async throws {
    let began = ContinuousClock.now
    do {
      try await Connection.withConnection(warehouse) { try await ledger.renew(on: $0) }
    } catch let error as LedgerError where error.code == .leaseLost {
      isLost = true
      throw error
    }
    safeUntil = max(safeUntil, began + .seconds(ledger.seconds))
  }
}
