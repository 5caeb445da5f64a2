internal import Logging
internal import PostgreSQL
internal import ServiceLifecycle

/// Ensures that only one server works on a database. Two servers would process and expire each other's jobs, and
/// remove each other's files. See `OwnershipLocks`.
actor Ownership {
  /// Limits on waiting.
  struct Timeouts: Sendable {
    /// How long to wait for a response of the database.
    let database: Duration
    /// How long to wait until the sessions of an earlier server end, for example if this role lacks the privilege to
    /// terminate them.
    let takeover: Duration
  }

  private let database: Database
  private let timeouts: Timeouts
  private let logger: Logger
  /// The session that holds the locks.
  private(set) var connection: Connection
  /// The number of the current term. Each time this server becomes the owner, it gets a new number. Between two terms,
  /// another server might have been the owner.
  private(set) var term: Int32
  private var isUnavailable = false
  /// The pool of this server's working sessions.
  private var pool: ConnectionPool?
  /// The check that runs now.
  private var check: Task<Void, any Error>?
  /// The number of checks that have ended.
  private var checks = 0

  /// How long to wait until PostgreSQL releases the locks of a killed server.
  private static let ownerTimeout = Duration.seconds(5)
  /// How long to wait until the other sessions of a killed server end by themselves. After this time they are
  /// terminated.
  private static let sessionsTimeout = Duration.seconds(1)
  /// How long a request waits for this server to be the owner again.
  private static let regainTimeout = Duration.seconds(1)
  private static let pause = Duration.milliseconds(100)

  /// Settings for TCP connections. Without these keepalives, PostgreSQL would keep the locks of a crashed machine for
  /// two hours.
  private static let keepaliveSettings: SQL = """
    SET tcp_keepalives_idle = '30s'; SET tcp_keepalives_interval = '10s'; SET tcp_keepalives_count = 3
    """

  /// The error for a session that must not be used.
  private static let lost = PostgreSQLError(
    code: .connectionFailed,
    message: "this server is not the owner of the database, or it was not the owner for some time")
  private static let onStandby = PostgreSQLError(
    code: .connectionLost, message: "the server has become a standby and accepts no changes")

  /// Becomes the owner of a database.
  /// - Throws: `StartError` if another server owns the database or sessions of an earlier server are still active;
  ///   `PostgreSQLError`.
  init(of database: Database, timeouts: Timeouts, logger: Logger) async throws {
    (self.database, self.timeouts, self.logger) = (database, timeouts, logger)
    do {
      (connection, term) = try await Self.beginTerm(database, after: nil, timeouts.takeover, logger)
    } catch let remaining as RemainingSessions {
      throw remaining.refusal
    }
  }

  // MARK: Beginning of a term

  /// Sessions of an earlier server still exist.
  private struct RemainingSessions: Error, CustomStringConvertible {
    let holders: [OwnershipLocks.Holder]

    var names: String { holders.map(\.description).joined(separator: "; ") }

    var description: String { "sessions of an earlier server are still active: \(names)" }

    var refusal: StartError {
      let calls = holders.map { "pg_terminate_backend(\($0.process))" }.joined(separator: ", ")
      return StartError(
        message:
          "sessions of an earlier compliance-server are still active in this database: \(names)",
        remedy: "stop that server, or terminate the sessions as a superuser: SELECT \(calls)")
    }
  }

  /// Begins a term: becomes the owner, and waits until no session of an earlier server is left.
  /// - Parameter previous: this server's previous term.
  private static func beginTerm(
    _ database: Database, after previous: Int32?, _ takeoverTimeout: Duration, _ logger: Logger
  ) async throws -> (Connection, Int32) {
    let connection = try await database.connect(as: "compliance-server: owner")
    do {
      try await connection.runScript(Self.keepaliveSettings)
      try await acquireOwnership(connection, after: previous)
      let term = try await OwnershipLocks.newTerm(connection)
      try await waitForOthers(connection, takeoverTimeout, logger)
      return (connection, term)
    } catch {
      await connection.close()
      throw error
    }
  }

  private static func acquireOwnership(_ connection: Connection, after previous: Int32?)
    async throws
  {
    let deadline = ContinuousClock.now + ownerTimeout
    while try await !OwnershipLocks.tryOwn(connection) {
      // PostgreSQL might not have noticed yet that this server's previous session is closed.
      let owner = try await OwnershipLocks.ownerHolder(connection, term: previous)
      if let owner, owner.hasTerm {
        _ = try await OwnershipLocks.terminate(owner.holder, connection)
      }
      if let owner, ContinuousClock.now >= deadline {
        guard owner.hasTerm else { throw ownedByOther(owner.holder) }
        throw PostgreSQLError(
          code: .connectionFailed,
          message: "an earlier session of this server has not ended: \(owner.holder.description)")
      }
      try await Task.sleep(for: pause)
    }
  }

  private static func ownedByOther(_ holder: OwnershipLocks.Holder) -> StartError {
    StartError(
      message: "another compliance-server uses this database (\(holder.description))",
      remedy: "stop that server, or start this server with another database")
  }

  /// Waits until no session of an earlier server can change the database. Terminates the sessions that do not end by
  /// themselves, because their server is no longer the owner.
  private static func waitForOthers(
    _ connection: Connection, _ takeoverTimeout: Duration, _ logger: Logger
  ) async throws {
    let began = ContinuousClock.now
    var isLogged = false
    while try await !OwnershipLocks.isAlone(connection) {
      let waited = ContinuousClock.now - began
      if waited >= sessionsTimeout {
        let holders = try await OwnershipLocks.fenceHolders(connection)
        var remaining: [OwnershipLocks.Holder] = []
        for holder in holders where try await !OwnershipLocks.terminate(holder, connection) {
          remaining.append(holder)
        }
        if waited >= takeoverTimeout, !holders.isEmpty { throw RemainingSessions(holders: holders) }
        if !isLogged, !remaining.isEmpty {
          isLogged = true
          logger.warning(
            "waiting for sessions that the role cannot terminate: \(RemainingSessions(holders: remaining).names)"
          )
        }
      }
      try await Task.sleep(for: pause)
    }
  }

  // MARK: During a term

  /// Sets the pool of working sessions.
  /// - Parameter pool: a pool that opens its connections with `workingSession`.
  func use(_ pool: ConnectionPool) { self.pool = pool }

  /// Opens a session that may change the database while this server is the owner. If the owner's session was lost, the
  /// function waits up to a second for a new one. So a request right after an outage normally succeeds.
  func workingSession() async throws -> Connection {
    if let session = try await joinedSession() { return session }
    try await regain()
    guard let session = try await joinedSession() else { throw Self.lost }
    return session
  }

  /// Starts a check of the ownership and waits for its end, at most `regainTimeout`.
  private func regain() async throws {
    let before = checks
    // An error is ignored here, because the periodic check reports it.
    Task { try? await keep() }
    let deadline = ContinuousClock.now + Self.regainTimeout
    while checks == before, ContinuousClock.now < deadline {
      try await Task.sleep(for: Self.pause)
    }
  }

  /// Opens a session that holds the fence lock in shared mode.
  /// - Returns: nil if this server is not the owner.
  private func joinedSession() async throws -> Connection? {
    let session = try await database.connect(as: "compliance-server")
    do {
      // Normally the statements of requests take milliseconds. Without the timeout, the pool would abort the session of
      // a statement that hangs, and PostgreSQL could still complete the statement later.
      try await session.execute("SET statement_timeout = '30s'")
      if try await OwnershipLocks.join(session, term: term) { return session }
      await session.close()
      return nil
    } catch {
      await session.close()
      throw error
    }
  }

  /// Checks that this server has been the owner without interruption since the caller read `term`.
  /// - Throws: `PostgreSQLError` if it has not.
  func confirm(_ term: Int32) async throws {
    try await ping()
    guard term == self.term else { throw Self.lost }
  }

  /// - Throws: `PostgreSQLError` if the session is lost, or if PostgreSQL has become a standby.
  private func ping() async throws {
    let isStandby = try await connection.withLimit(timeouts.database) {
      try await $0.query("SELECT pg_is_in_recovery()").onlyRow(as: Bool.self)
    }
    guard !isStandby else { throw Self.onStandby }
  }

  /// Checks that this server is still the owner. If the connection was lost, the server tries to become the owner
  /// again.
  /// - Throws: `StartError` if another server has become the owner. Then this server must stop.
  func keep() async throws {
    let check = self.check ?? Task { try await self.checkOwner() }
    self.check = check
    defer {
      if self.check == check { (self.check, checks) = (nil, checks + 1) }
    }
    // When the server stops, a check must end even if the database does not respond.
    try await withTaskCancellationHandler {
      try await check.value
    } onCancel: {
      check.cancel()
    }
  }

  private func checkOwner() async throws {
    do {
      return try await ping()
    } catch {
      // Log this once, not at each check.
      if !isUnavailable { logger.warning("the database is not available: \(error)") }
      isUnavailable = true
    }
    await connection.close()
    // The pool's connections belong to the term that has ended.
    await pool?.renew()
    do {
      (connection, term) = try await Self.beginTerm(
        database, after: term, timeouts.takeover, logger)
      isUnavailable = false
      logger.notice("the database is available again")
    } catch let error as StartError {
      throw error
    } catch {
      // The next check tries again.
      logger.debug("the database is still not available: \(error)")
    }
  }

  func close() async { await connection.close() }
}

/// Checks the ownership periodically.
struct OwnershipWatch: Service {
  let ownership: Ownership

  private static let pause = Duration.seconds(2)

  /// - Throws: `StartError` if another server has become the owner.
  func run() async throws {
    try await cancelWhenGracefulShutdown {
      while !Task.isCancelled {
        do {
          try await Task.sleep(for: Self.pause)
        } catch {
          return
        }
        try await ownership.keep()
      }
    }
  }
}
