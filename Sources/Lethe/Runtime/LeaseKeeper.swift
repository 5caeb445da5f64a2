import ComplianceAPI
import Failures
import Ledger
import Logging
import PostgreSQL
import SubmitStage
import Vocabulary

/// The error that the leases of this process expired, because the database was unavailable and they could not be
/// renewed.
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

/// Renews the leases of this process while it works, and stops its work when the leases are lost.
///
/// Each call that changes something at the API needs a renewal, and such calls often follow each other. So a renewal
/// uses the session of the previous renewal again, unless that session was idle for more than a few seconds: a firewall
/// could have dropped it without notice.
actor LeaseKeeper: CallPermit, LeaseStatus {
  nonisolated let ledger: WorkerLedger
  private nonisolated let warehouse: ConnectionString
  private nonisolated let connections = OpenConnections()
  private let logger: Logger
  /// Until this moment, no other process can take over the leases. This machine's clock measures it. The clock also
  /// counts the time in which the process or the machine is suspended.
  private var safeUntil: ContinuousClock.Instant

  /// The session of the last renewal, and when it was used. Nil while a renewal uses it.
  private var session: (connection: Connection, lastUse: ContinuousClock.Instant)?
  private var isLost = false
  /// What tasks of this process have leased.
  private var leased: Set<Resource> = []
  /// What could not be released, for example because the session was lost.
  private var unreleased: Set<Resource> = []
  /// What renewals are releasing now. Until that is done, no task can lease it: the renewal would end the new lease.
  private var releasing: Set<Resource> = []
  /// Whether other processes have been in this process's team. Their changes send no signal to this process.
  private(set) var hasHadTeammates = false

  /// A renewal that fails is tried again several times before the lease expires.
  private static let renewalsPerLease = 6
  /// The maximum time for the query of `isRecorded`.
  private static let queryMax = Duration.seconds(2)
  /// How long a renewal may take. The lower bound applies if the lease expires sooner, or if it has already expired,
  /// for example after the machine was suspended.
  private static let renewalLimits = Duration.seconds(2)...Duration.seconds(10)
  private static let retryDelay = Duration.seconds(1)
  /// How long the session of a renewal may have been idle before it is used again.
  private static let idleMax = Duration.seconds(5)
  /// How long a renewal may take in a session that is used again. A new session gets the rest of the renewal's time.
  private static let reuseMax = Duration.seconds(2)

  /// - Parameter began: a moment before the worker's row was written.
  init(
    _ ledger: WorkerLedger, since began: ContinuousClock.Instant, on warehouse: ConnectionString,
    logger: Logger
  ) {
    (self.ledger, self.warehouse, self.logger) = (ledger, warehouse, logger)
    safeUntil = began + .seconds(ledger.seconds)
  }

  /// Runs `body`, and cancels it when the leases are lost.
  /// - Throws: `LedgerError` `.leaseLost`; `LeaseNotRenewed`; `PostgreSQLError` if the server refuses a renewal; the
  ///   errors of `body`.
  func keep<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) async throws -> R {
    try await withTaskCancellationHandler {
      try await withThrowingTaskGroup(of: R?.self) { group in
        group.addTask {
          do {
            return try await body()
          } catch {
            // A successor may have removed files or ended sessions. Then the lost lease is the cause of the error.
            try await self.rethrowIfLost(error)
          }
        }
        group.addTask {
          do {
            try await self.renewRepeatedly()
          } catch let error where !(error is CancellationError) {
            self.connections.abortSoon()
            throw error
          }
          return nil
        }
        defer { group.cancelAll() }
        while let result = try await group.next() {
          if let result { return result }
        }
        throw CancellationError()
      }
    } onCancel: {
      connections.abortSoon()
    }
  }

  enum Claim {
    case mine
    /// Another task of this process has the resource.
    case busy
    case held(by: LeaseHolder)
  }

  /// Leases a resource for a task of this process.
  func claim(_ resource: Resource, on connection: Connection) async throws -> Claim {
    guard !releasing.contains(resource), leased.insert(resource).inserted else { return .busy }
    do {
      let claim = try await ledger.claim(resource, on: connection, hasEnded: LocalProcess.hasEnded)
      unreleased.remove(resource)
      switch claim {
      case .mine: return .mine
      case .takenOver(let former):
        logger.notice("the lease of \(former.description) has ended; continuing its work")
        return .mine
      case .held(let holder):
        leased.remove(resource)
        return .held(by: holder)
      }
    } catch {
      leased.remove(resource)
      throw error
    }
  }

  /// Releases a resource. If that fails, the next renewal releases it.
  func release(_ resource: Resource, on connection: Connection) async {
    do {
      try await ledger.release(resource, on: connection)
    } catch {
      unreleased.insert(resource)
    }
    leased.remove(resource)
  }

  func noteTeammates() { hasHadTeammates = true }

  func checkIsLost() async -> Bool {
    // A cancelled task sends no statements, so this needs a task of its own.
    if !isLost { await Task { try? await self.renew() }.value }
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

  /// Renews the leases, directly before a call that changes something at the API.
  /// - Throws: `LedgerError` `.leaseLost`, or `PostgreSQLError` if they cannot be renewed.
  func requireCallsAllowed() async throws {
    try await renew()
  }

  /// A connection whose sessions are marked, so that a process that takes over can terminate them.
  /// - Parameter onOpen: runs in each new session.
  nonisolated func connect(
    renewedAfter idleMax: Duration, onOpen: @escaping @Sendable (Connection) async throws -> Void
  ) async throws -> Connection {
    let connection = try await Connection.connect(warehouse, renewedAfter: idleMax) { [ledger] in
      try await ledger.mark($0)
      try await onOpen($0)
    }
    connections.add(connection)
    return connection
  }

  /// Whether the ledger has an attempt with this job of the API. True if the query fails.
  nonisolated func isRecorded(_ apiID: String) async -> Bool {
    do {
      return try await withBriefConnection(warehouse, limit: Self.queryMax) {
        try await ChunkLedger.isRecorded(apiID, on: $0)
      }
    } catch {
      return true
    }
  }

  nonisolated var renewalInterval: Duration {
    .seconds(ledger.seconds) / Self.renewalsPerLease
  }

  private func renewRepeatedly() async throws {
    var delay = renewalInterval
    while true {
      try await Task.sleep(for: delay)
      do {
        try await renew()
        delay = renewalInterval
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
      // The work has to stop when the lease expires, so a renewal must not take longer.
      let left = min(
        max(safeUntil - began, Self.renewalLimits.lowerBound), Self.renewalLimits.upperBound)
      let toRelease = unreleased.subtracting(leased).subtracting(releasing)
      releasing.formUnion(toRelease)
      defer { releasing.subtract(toRelease) }
      let hasTeammates = try await withConnection(limit: left) { [ledger] in
        try await ledger.renew(on: $0)
        for resource in toRelease { try await ledger.release(resource, on: $0) }
        return try await ledger.hasTeammates(on: $0)
      }
      unreleased.subtract(toRelease)
      if hasTeammates { hasHadTeammates = true }
    } catch let error as LedgerError where error.code == .leaseLost {
      isLost = true
      throw error
    }
    safeUntil = max(safeUntil, began + .seconds(ledger.seconds))
  }

  /// Runs `body` with the session of the last renewal. If that session was idle for some time or is lost, or if another
  /// renewal uses it, runs `body` with a new one.
  /// - Throws: as `withBriefConnection`.
  private func withConnection<R: Sendable>(
    limit: Duration, _ body: @escaping @Sendable (Connection) async throws -> R
  ) async throws -> R {
    let end = ContinuousClock.now + limit
    if let (connection, lastUse) = session.take(), ContinuousClock.now - lastUse < Self.idleMax {
      do {
        let result = try await within(min(limit / 2, Self.reuseMax)) {
          try await connection.abortedOnCancellation { try await body(connection) }
        }
        session = (connection, .now)
        return result
      } catch let error as PostgreSQLError where error.isTemporary && end > .now {
        // The session may be one of a former primary, or may have been terminated.
      }
    }
    let (connection, result) = try await within(end - .now) { [warehouse] in
      let connection = try await Connection.connect(warehouse)
      return (connection, try await connection.abortedOnCancellation { try await body(connection) })
    }
    session = (connection, .now)
    return result
  }
}
