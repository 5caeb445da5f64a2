public import PostgreSQL

/// The leases of a process: one row, `lethe.worker`, whose expiry is that of all its leases. The database's clock decides
/// about the expiry.
///
/// A lease that has expired is not lost: it is lost when another worker takes it over. That worker first terminates the
/// sessions of the former one, so none of its statements can take effect later.
public struct WorkerLedger: Sendable {
  public let lease: Lease
  /// The time from a renewal to the expiry.
  public let seconds: Int

  /// How long to wait until the server has terminated a session.
  private static let terminationSeconds = 10
  /// How long to wait for another worker that is taking the same lease.
  private static let lockTimeout = "10s"

  public init(lease: Lease, seconds: Int) {
    self.lease = lease
    self.seconds = seconds
  }

  public static func resource(ofPipeline name: String) -> String { "pipeline \(name)" }

  // MARK: The worker

  /// Records this process as a worker.
  /// - Parameter command: such as `lethe run`.
  public func begin(
    _ command: String, _ process: ProcessIdentity, on connection: Connection
  ) async throws {
    try await connection.execute(
      """
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
      session, "the lease of this process",
      """
      UPDATE lethe.worker
      SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => \(seconds))
      WHERE lease = \(lease.token)::uuid
      """)
  }

  /// Marks a session as one of this worker. A session must be marked before it changes anything, because whoever takes
  /// over terminates only marked sessions.
  ///
  /// The mark is an advisory lock that all sessions of the worker share. It excludes nobody. PostgreSQL shows it to every
  /// role, unlike the other facts about a session, and releases it when the session ends.
  /// - Throws: `LedgerError` `.leaseLost` if another worker has taken over from this one.
  public func mark(_ session: Connection) async throws {
    _ = try await session.query("SELECT pg_advisory_lock_shared(\(Self.mark(of: lease.token)))")
    // A worker that takes over first deletes the row, and then looks for marks.
    try await ChunkQueries.guarded(
      session, "the lease of this process",
      "SELECT FROM lethe.worker WHERE lease = \(lease.token)::uuid FOR SHARE")
  }

  private static func mark(of token: String) -> Int64 {
    Int64(bitPattern: UInt64(token.filter(\.isHexDigit).prefix(16), radix: 16) ?? 0)
  }

  /// Ends the worker and its leases.
  public func end(on session: some Session) async throws {
    try await session.execute("DELETE FROM lethe.worker WHERE lease = \(lease.token)::uuid")
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
  /// - Parameters:
  ///   - resource: such as `pipeline nightly`.
  ///   - hasEnded: whether a process is known to have ended. It is asked only about a holder whose lease has not
  ///     expired.
  /// - Throws: `LedgerError` `.refused` if the holder's lease has expired, but its sessions cannot be terminated.
  public func claim(
    _ resource: String, on connection: Connection,
    hasEnded: @escaping @Sendable (ProcessIdentity) -> Bool
  ) async throws -> Claim {
    try await connection.withTransaction { transaction in
      try await transaction.execute("SET LOCAL lock_timeout = \(literal: Self.lockTimeout)")
      let isNew = try await transaction.execute(
        """
        INSERT INTO lethe.lease (resource, lease) VALUES (\(resource), \(lease.token)::uuid)
        ON CONFLICT (resource) DO NOTHING
        """)
      if isNew == 1 { return .mine }
      let row = try await transaction.query(
        """
        SELECT w.lease, w.command, w.host, w.process_id, w.boot_id, w.pid_namespace, w.process_start,
               \(SQL.utc("l.since")) AS since, \(SQL.utc("w.expires_at")) AS expires_at,
               w.expires_at <= clock_timestamp() AS has_expired
        FROM lethe.lease AS l JOIN lethe.worker AS w USING (lease)
        WHERE l.resource = \(resource) FOR UPDATE OF l
        """
      ).onlyRow()
      let token: String = try row["lease"]
      if token == lease.token { return .mine }
      let holder = try Self.holder(row)
      let hasExpired: Bool = try row["has_expired"]
      guard hasExpired || hasEnded(holder.process) else { return .held(by: holder) }
      try await transaction.executeOne(
        """
        UPDATE lethe.lease
        SET lease = \(lease.token)::uuid, generation = generation + 1, since = clock_timestamp()
        WHERE resource = \(resource)
        """)
      try await end(token, holder, on: transaction)
      return .takenOver(from: holder)
    }
  }

  public func release(_ resource: String, on session: some Session) async throws {
    try await session.execute(
      "DELETE FROM lethe.lease WHERE resource = \(resource) AND lease = \(lease.token)::uuid")
  }

  /// The worker that has a resource; nil if none has, or if its lease has expired.
  public static func holder(
    of resource: String, on session: some Session
  ) async throws -> LeaseHolder? {
    try await session.query(
      """
      SELECT w.command, w.host, w.process_id, w.boot_id, w.pid_namespace, w.process_start,
             \(SQL.utc("l.since")) AS since, \(SQL.utc("w.expires_at")) AS expires_at
      FROM lethe.lease AS l JOIN lethe.worker AS w USING (lease)
      WHERE l.resource = \(resource) AND w.expires_at > clock_timestamp()
      """
    ).rows.first.map(Self.holder)
  }

  private static func holder(_ row: Row) throws -> LeaseHolder {
    LeaseHolder(
      command: try row["command"],
      process: ProcessIdentity(
        host: try row["host"], processID: try row["process_id"], bootID: try row["boot_id"],
        pidNamespace: try row["pid_namespace"], start: try row["process_start"]),
      since: try row["since"], expiresAt: try row["expires_at"])
  }

  /// Ends another worker: terminates its sessions, and waits until the server has done so.
  private func end(
    _ token: String, _ holder: LeaseHolder, on transaction: Transaction
  ) async throws {
    // Until this transaction ends, the other worker can neither renew its leases nor record a session.
    try await transaction.execute(
      "SELECT FROM lethe.worker WHERE lease = \(token)::uuid FOR UPDATE")
    // The sessions belong to the role that has connected, which may have set another one.
    let role = try await transaction.query("SELECT current_setting('role')").onlyRow(
      as: String.self)
    let left: Int
    do {
      try await transaction.execute("SET LOCAL ROLE NONE")
      left = try await transaction.query(
        """
        SELECT count(*) FILTER (
                 WHERE NOT pg_terminate_backend(l.pid, \(literal: Self.terminationSeconds * 1000)))
        FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
          AND (l.classid::bigint << 32) | l.objid::bigint = \(Self.mark(of: token))
        """
      ).onlyRow(as: Int.self)
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
        remedy: "run again; if it stays so, look at these sessions in pg_stat_activity")
    }
    try await transaction.execute("DELETE FROM lethe.worker WHERE lease = \(token)::uuid")
  }
}
