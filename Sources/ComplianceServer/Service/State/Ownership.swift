internal import Logging
internal import PostgreSQL
internal import ServiceLifecycle

/// That one server alone works on a database: two would process, expire and sweep each other's jobs. See
/// `OwnershipLocks`.
actor Ownership {
  /// How long it waits for what.
  struct Patience: Sendable {
    /// For an answer of the database.
    let database: Duration
    /// For sessions of an earlier server that may not be ended.
    let takeover: Duration
  }

  private let database: Database
  private let patience: Patience
  private let logger: Logger
  /// The session that has the database.
  private(set) var connection: Connection
  /// Another one whenever the database became this server's: another server may have had it between two.
  private(set) var term: Int32
  private var isAway = false

  /// How long a server that has just been killed may still seem to be there.
  private static let ownerPatience = Duration.seconds(5)
  /// How long its other sessions may take to end by themselves.
  private static let sessionsPatience = Duration.seconds(1)
  private static let pause = Duration.milliseconds(100)

  /// PostgreSQL would keep the place of a machine that is gone without a word for two hours. Over TCP only.
  private static let deadPeer: SQL = """
    SET tcp_keepalives_idle = '30s'; SET tcp_keepalives_interval = '10s'; SET tcp_keepalives_count = 3
    """

  /// What a session finds that must not be used.
  private static let lost = PostgreSQLError(
    code: .connectionFailed, message: "the database is not this server's, or was not meanwhile")

  /// - Throws: `StartError` if another server has the database, or sessions of an earlier one are at work on it;
  ///   `PostgreSQLError`.
  init(of database: Database, patience: Patience, logger: Logger) async throws {
    (self.database, self.patience, self.logger) = (database, patience, logger)
    do {
      (connection, term) = try await Self.begun(database, after: nil, patience.takeover, logger)
    } catch let lingering as Lingering {
      throw lingering.refusal
    }
  }

  // MARK: A term begins

  /// Sessions of an earlier server are still there.
  private struct Lingering: Error, CustomStringConvertible {
    let holders: [OwnershipLocks.Holder]

    var names: String { holders.map(\.description).joined(separator: "; ") }

    var description: String { "sessions of an earlier server are still at work: \(names)" }

    var refusal: StartError {
      let calls = holders.map { "pg_terminate_backend(\($0.process))" }.joined(separator: ", ")
      return StartError(
        message:
          "sessions of an earlier compliance-server are still at work on this database: \(names)",
        remedy: "stop that server, or end them as a superuser: SELECT \(calls)")
    }
  }

  /// - Parameter former: the server's own term before.
  private static func begun(
    _ database: Database, after former: Int32?, _ patience: Duration, _ logger: Logger
  ) async throws -> (Connection, Int32) {
    let connection = try await database.connect(as: "compliance-server: owner")
    do {
      try await connection.runScript(Self.deadPeer)
      try await own(connection, after: former)
      let term = try await OwnershipLocks.newTerm(connection)
      try await waitForOthers(connection, patience, logger)
      return (connection, term)
    } catch {
      await connection.close()
      throw error
    }
  }

  private static func own(_ connection: Connection, after former: Int32?) async throws {
    let giveUpAt = ContinuousClock.now + ownerPatience
    while try await !OwnershipLocks.tryOwn(connection) {
      // Of the server's own session before, PostgreSQL may not know yet that it is given up.
      let owner = try await OwnershipLocks.ownerHolder(connection, term: former)
      if let owner, owner.hasTerm { _ = try await OwnershipLocks.end(owner.holder, connection) }
      if let owner, ContinuousClock.now >= giveUpAt {
        guard owner.hasTerm else { throw taken(by: owner.holder) }
        throw PostgreSQLError(
          code: .connectionFailed,
          message: "an earlier session of this server has not ended: \(owner.holder.description)")
      }
      try await Task.sleep(for: pause)
    }
  }

  private static func taken(by holder: OwnershipLocks.Holder) -> StartError {
    StartError(
      message: "another compliance-server works on this database (\(holder.description))",
      remedy: "stop it, or give this one a database of its own")
  }

  /// Returns once no session of an earlier server can change the database. Those that do not end by themselves are
  /// ended: what they have under way is nobody's any more.
  private static func waitForOthers(
    _ connection: Connection, _ patience: Duration, _ logger: Logger
  ) async throws {
    let began = ContinuousClock.now
    var isTold = false
    while try await !OwnershipLocks.isAlone(connection) {
      let waited = ContinuousClock.now - began
      if waited >= sessionsPatience {
        let holders = try await OwnershipLocks.fenceHolders(connection)
        var kept: [OwnershipLocks.Holder] = []
        for holder in holders where try await !OwnershipLocks.end(holder, connection) {
          kept.append(holder)
        }
        if waited >= patience, !holders.isEmpty { throw Lingering(holders: holders) }
        if !isTold, !kept.isEmpty {
          isTold = true
          logger.warning(
            "waits for sessions that the role may not end: \(Lingering(holders: kept).names)")
        }
      }
      try await Task.sleep(for: pause)
    }
  }

  // MARK: While it lasts

  /// A session that may change the database as long as that is this server's.
  func workingSession() async throws -> Connection {
    let session = try await database.connect(as: "compliance-server")
    do {
      // These statements take milliseconds. One that does not must not hold requests up for ever.
      try await session.execute("SET statement_timeout = '30s'")
      guard try await OwnershipLocks.join(session, term: term) else { throw Self.lost }
      return session
    } catch {
      await session.close()
      throw error
    }
  }

  /// Returns if the database has been this server's all the time since a term was read.
  /// - Throws: `PostgreSQLError`.
  func confirm(_ term: Int32) async throws {
    try await look()
    guard term == self.term else { throw Self.lost }
  }

  private func look() async throws {
    _ = try await connection.withLimit(patience.database) { try await $0.query("SELECT 1") }
  }

  /// Sees to it that the database stays this server's, also when it was away.
  /// - Throws: `StartError` if another server has taken it meanwhile: this one ends.
  func keep(_ pool: ConnectionPool) async throws {
    do {
      return try await look()
    } catch {
      // Once, and not at each look.
      if !isAway { logger.warning("the database is away: \(error)") }
      isAway = true
    }
    await connection.close()
    // Theirs is a term that is over.
    await pool.renew()
    do {
      (connection, term) = try await Self.begun(database, after: term, patience.takeover, logger)
      isAway = false
      logger.notice("the database is back")
    } catch let error as StartError {
      throw error
    } catch {
      // Still away; the next look tries again.
      logger.debug("the database is still away: \(error)")
    }
  }

  func close() async { await connection.close() }
}

/// Looks from time to time whether the database is the server's.
struct OwnershipWatch: Service {
  let ownership: Ownership
  let pool: ConnectionPool

  private static let pause = Duration.seconds(2)

  /// - Throws: `StartError` if another server has taken the database.
  func run() async throws {
    try await cancelWhenGracefulShutdown {
      while !Task.isCancelled {
        do {
          try await Task.sleep(for: Self.pause)
        } catch {
          return
        }
        try await ownership.keep(pool)
      }
    }
  }
}
