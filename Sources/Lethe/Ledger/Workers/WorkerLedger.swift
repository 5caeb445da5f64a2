import CrashPoints
public import PostgreSQL

/// The leases of a process. The process has one row in `lethe.worker`, and all its leases expire at the time in that
/// row. The database's clock decides whether they have expired.
///
/// An expired lease still belongs to its worker until another worker takes it over. That other worker first terminates
/// the former worker's sessions, so no statement of the former worker can take effect afterwards.
public struct WorkerLedger: Sendable {
  public let lease: Lease
  /// The time from a renewal to the expiry.
  public let seconds: Int

  /// How long to wait until the server has terminated a session.
  private static let terminationSeconds = 10
  /// How long to wait for another worker that is taking the same lease.
  static let lockTimeout = "10s"

  public init(lease: Lease, seconds: Int) {
    self.lease = lease
    self.seconds = seconds
  }

  // MARK: The worker

  /// Records this process as a worker.
  /// - Parameter command: such as `lethe run`.
  public func begin(
    _ command: String, _ process: ProcessIdentity, on connection: Connection
  ) async throws {
    try await connection.execute(
      recording: .workerBegun,
      """
      WITH forgotten AS (
        -- They were killed before they could work on a pipeline, so nobody takes over from them.
        DELETE FROM lethe.worker
        WHERE lease IN (SELECT w.lease FROM lethe.worker AS w
                        WHERE w.pipeline IS NULL AND w.expires_at < clock_timestamp() - interval '1 day'
                        FOR UPDATE SKIP LOCKED)
      )
      INSERT INTO lethe.worker
        (lease, command, host, process_id, boot_id, pid_namespace, process_start, expires_at)
      VALUES (\(lease.token)::uuid, \(command), \(process.host), \(process.processID), \(process.bootID),
              \(process.pidNamespace), \(process.start),
              clock_timestamp() + make_interval(secs => \(seconds)))
      """)
    try await mark(connection)
  }

  /// Renews the worker's leases.
  /// - Throws: `LedgerError` `.leaseLost` if another worker has taken over from this one.
  public func renew(on session: some Session) async throws {
    try await ChunkQueries.guarded(
      session, "the lease of this process", recording: .leaseRenewed,
      """
      UPDATE lethe.worker
      SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => \(seconds))
      WHERE lease = \(lease.token)::uuid
      """)
  }

  /// Marks a session as one of this worker. A session must be marked before it changes anything, because a worker that
  /// takes over terminates only marked sessions.
  ///
  /// The mark is an advisory lock that all sessions of the worker share. It excludes nobody. PostgreSQL shows it to
  /// every role, unlike the other facts about a session, and releases it when the session ends.
  /// - Throws: `LedgerError` `.leaseLost` if another worker has taken over from this one.
  public func mark(_ session: Connection) async throws {
    _ = try await CrashStep.sessionMarked.around {
      try await session.query("SELECT pg_advisory_lock_shared(\(Self.mark(of: lease.token)))")
    }
    // A worker that takes over locks the row, then terminates the marked sessions, and then deletes the row. So this
    // session is either terminated or does not find the row.
    try await ChunkQueries.guarded(
      session, "the lease of this process",
      "SELECT FROM lethe.worker WHERE lease = \(lease.token)::uuid FOR SHARE")
  }

  /// SQL: the other sessions with the worker's mark, as `l`.
  private static func marks(of token: String) -> SQL {
    """
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32) | l.objid::bigint = \(mark(of: token))
    """
  }

  private static func mark(of token: String) -> Int64 {
    Int64(bitPattern: UInt64(token.filter(\.isHexDigit).prefix(16), radix: 16) ?? 0)
  }

  /// Ends the worker and its leases.
  public func end(on session: some Session) async throws {
    try await session.execute(
      recording: .workerEnded,
      "DELETE FROM lethe.worker WHERE lease = \(lease.token)::uuid")
  }

  // MARK: Leases

  public enum Claim: Sendable, Equatable {
    case mine
    /// Taken over from this worker, whose lease had expired or whose process had ended.
    case takenOver(from: LeaseHolder)
    case held(by: LeaseHolder)
  }

  /// Leases a resource, unless another worker has it.
  ///
  /// - Parameter hasEnded: whether a process is known to have ended. This function is called only for a holder whose
  ///   lease has not expired.
  /// - Throws: `LedgerError` `.refused` if the holder's lease has expired or its process has ended, but its sessions
  ///   cannot be terminated.
  public func claim(
    _ resource: Resource, on connection: Connection,
    hasEnded: @escaping @Sendable (ProcessIdentity) -> Bool
  ) async throws -> Claim {
    while true {
      let claim = try await afterDeadlocks {
        try await connection.withTransaction(recording: resource.claimStep) { transaction in
          try await transaction.execute("SET LOCAL lock_timeout = \(literal: Self.lockTimeout)")
          return try await tryToClaim(resource.description, on: transaction, hasEnded)
        }
      }
      if let claim { return claim }
    }
  }

  /// Two workers that end other workers can wait for each other.
  func afterDeadlocks<R: Sendable>(_ body: () async throws -> R) async throws -> R {
    while true {
      do {
        return try await body()
      } catch let error as PostgreSQLError where error.state == .deadlockDetected {
        continue
      }
    }
  }

  /// Releases a resource, if this worker has it.
  public func release(_ resource: Resource, on session: some Session) async throws {
    try await session.execute(
      recording: resource.releaseStep,
      "DELETE FROM lethe.lease WHERE resource = \(resource.description) AND lease = \(lease.token)::uuid"
    )
  }

  /// - Returns: nil if the holder ended or released the resource meanwhile. Then the resource is free, or a third
  ///   worker has it.
  private func tryToClaim(
    _ resource: String, on transaction: Transaction,
    _ hasEnded: @Sendable (ProcessIdentity) -> Bool
  ) async throws -> Claim? {
    let isNew = try await transaction.execute(
      """
      INSERT INTO lethe.lease (resource, lease) VALUES (\(resource), \(lease.token)::uuid)
      ON CONFLICT (resource) DO NOTHING
      """)
    if isNew == 1 { return .mine }
    let found = try await transaction.query(
      "SELECT lease FROM lethe.lease WHERE resource = \(resource)"
    ).firstRow(as: String.self)
    guard let former = found else { return nil }
    if former == lease.token { return .mine }
    guard let seen = try await holder(of: resource, former, on: transaction) else { return nil }
    guard seen.hasExpired || hasEnded(seen.holder.process) else { return .held(by: seen.holder) }
    // A process that was stopped within a transaction keeps its locks until its session ends.
    try await terminateSessions(of: former, seen.holder, on: transaction)
    // The worker is locked before its lease, in the same order as when it ends. Until this transaction ends, it can
    // neither renew its leases nor mark a session. It may have renewed its leases since it was read.
    let locked = try await self.holder(of: resource, former, isLocked: true, on: transaction)
    guard let (holder, hasExpired) = locked else { return nil }
    guard hasExpired || hasEnded(holder.process) else { return .held(by: holder) }
    let isTaken = try await transaction.execute(
      """
      UPDATE lethe.lease
      SET lease = \(lease.token)::uuid, generation = generation + 1, since = clock_timestamp()
      WHERE resource = \(resource) AND lease = \(former)::uuid
      """)
    guard isTaken == 1 else { return nil }
    try await end(former, holder, on: transaction)
    return .takenOver(from: holder)
  }

  /// The worker that has leased a resource. Nil if it does not have the resource any more.
  private func holder(
    of resource: String, _ token: String, isLocked: Bool = false, on transaction: Transaction
  ) async throws -> (holder: LeaseHolder, hasExpired: Bool)? {
    let lock: SQL = isLocked ? "FOR UPDATE" : ""
    let row = try await transaction.query(
      """
      SELECT \(Self.workerColumns),
             (SELECT \(SQL.utc("l.since")) FROM lethe.lease AS l
              WHERE l.resource = \(resource) AND l.lease = w.lease) AS since
      FROM lethe.worker AS w WHERE lease = \(token)::uuid \(lock)
      """
    ).rows.first
    guard let row, let since: String = try row["since"] as String? else { return nil }
    return (try Self.holder(row, since: since), try row["has_expired"])
  }

  /// SQL: what `holder` reads of `lethe.worker AS w`.
  static let workerColumns: SQL = """
    w.command, w.host, w.process_id, w.boot_id, w.pid_namespace, w.process_start, w.pipeline, w.is_joinable,
    \(SQL.utc("w.expires_at")) AS expires_at, w.expires_at <= clock_timestamp() AS has_expired
    """

  static func holder(_ row: Row, since: String) throws -> LeaseHolder {
    LeaseHolder(
      command: try row["command"],
      process: ProcessIdentity(
        host: try row["host"], processID: try row["process_id"], bootID: try row["boot_id"],
        pidNamespace: try row["pid_namespace"], start: try row["process_start"]),
      pipeline: try row["pipeline"], isJoinable: try row["is_joinable"], since: since,
      expiresAt: try row["expires_at"])
  }

  /// Ends another worker, whose row is locked.
  func end(
    _ token: String, _ holder: LeaseHolder, on transaction: Transaction
  ) async throws {
    try await terminateSessions(of: token, holder, on: transaction)
    try await transaction.execute("DELETE FROM lethe.worker WHERE lease = \(token)::uuid")
  }

  /// Terminates the sessions of another worker, and waits until the server has done so.
  /// - Throws: `LedgerError` `.refused` if the sessions cannot be terminated.
  func terminateSessions(
    of token: String, _ holder: LeaseHolder, on transaction: Transaction
  ) async throws {
    // The sessions belong to the role that connected. After SET ROLE, the current role is another one.
    let role = try await transaction.query("SELECT current_setting('role')").onlyRow(
      as: String.self)
    let left: Int
    do {
      try await transaction.execute("SET LOCAL ROLE NONE")
      left = try await CrashStep.formerSessionsTerminated.around {
        // A session may end by itself, or another worker may terminate it. pg_terminate_backend then returns false, so
        // the marks that are left decide.
        let sessions = try await transaction.query(
          """
          SELECT l.pid, pg_terminate_backend(l.pid, \(literal: Self.terminationSeconds * 1000))
          \(Self.marks(of: token))
          """
        ).rows(as: Int64.self, Bool.self).map(\.0)
        return try await transaction.query(
          "SELECT count(*) \(Self.marks(of: token)) AND l.pid = ANY (\(sessions)::bigint[])"
        ).onlyRow(as: Int.self)
      }
      if role != "none" { try await transaction.execute("SET LOCAL ROLE \(identifier: role)") }
    } catch let error as PostgreSQLError where error.state == .insufficientPrivilege {
      throw LedgerError(
        code: .refused,
        message: """
          the lease of \(holder.description) has ended, but its sessions belong to another role, and this role may not \
          terminate them
          """,
        remedy: """
          run with the role of that process, or GRANT pg_signal_backend to this role; or end that process, and run again
          """)
    }
    guard left == 0 else {
      throw LedgerError(
        code: .refused,
        message: """
          the lease of \(holder.description) has ended, but \(left) of its sessions did not end within \
          \(Self.terminationSeconds) s
          """,
        remedy: "run again; if this error repeats, look at these sessions in pg_stat_activity")
    }
  }
}
