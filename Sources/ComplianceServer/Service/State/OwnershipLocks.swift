internal import PostgreSQL

/// The advisory locks that let only one server work on a database. PostgreSQL releases them when their sessions end,
/// so a killed server leaves nothing to clean up.
///
/// - `owner`: the server with the session that holds this lock is the owner.
/// - `term`: a random number that the owner's session also locks. The server's other sessions recognize the owner's
///   session by this lock.
/// - `fence`: each working session of a server locks the fence in shared mode, and then checks that the `term` is
///   still locked. A new owner waits until it can lock the fence in exclusive mode. Then no session of an earlier
///   server is left. A later session of that server fails the check, because its term is no longer locked.
enum OwnershipLocks {
  private static let group: SQL = "pg_catalog.hashtext('compliance.server')"
  private static let owner: Int32 = 0
  private static let fence: Int32 = 1

  /// A condition on `pg_locks` that selects the held locks of the group in this database.
  private static let held: SQL = """
    locktype = 'advisory' AND granted AND objsubid = 2
      AND classid = (\(group)::bigint & 4294967295)::oid
      AND database = (SELECT oid FROM pg_catalog.pg_database
                      WHERE datname = pg_catalog.current_database())
    """

  static func tryOwn(_ session: Connection) async throws -> Bool {
    try await session.query("SELECT pg_catalog.pg_try_advisory_lock(\(group), \(literal: owner))")
      .onlyRow(as: Bool.self)
  }

  /// Locks an unused term and returns it.
  static func newTerm(_ session: Connection) async throws -> Int32 {
    while true {
      let term = Int32.random(in: (fence + 1)...Int32.max)
      let isNew = try await session.query(
        "SELECT pg_catalog.pg_try_advisory_lock(\(group), \(literal: term))"
      ).onlyRow(as: Bool.self)
      if isNew { return term }
    }
  }

  /// Whether no session holds the fence. Only the owner calls this.
  static func isAlone(_ session: Connection) async throws -> Bool {
    try await session.query(
      """
      SELECT CASE WHEN pg_catalog.pg_try_advisory_lock(\(group), \(literal: fence))
                  THEN pg_catalog.pg_advisory_unlock(\(group), \(literal: fence)) ELSE false END
      """
    ).onlyRow(as: Bool.self)
  }

  /// Locks the fence in shared mode.
  /// - Returns: false if the server of this term is not the owner. Then the session must not be used.
  static func join(_ session: Connection, term: Int32) async throws -> Bool {
    let shares = try await session.query(
      "SELECT pg_catalog.pg_try_advisory_lock_shared(\(group), \(literal: fence))"
    ).onlyRow(as: Bool.self)
    guard shares else { return false }
    // One statement reads all locks, because PostgreSQL releases the locks of a session one after another.
    return try await session.query(
      """
      SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE \(held) AND objid IN (\(literal: owner), \(literal: term))
                     GROUP BY pid HAVING pg_catalog.count(*) = 2)
      """
    ).onlyRow(as: Bool.self)
  }

  // MARK: Holders

  /// A session that holds one of the locks.
  struct Holder: Sendable {
    let process: Int64
    /// Such as `PostgreSQL's process 4711 of the role app from 10.0.0.1, since 2026-11-01T00:00:00Z`.
    let description: String
  }

  /// Returns the owner's session, and whether it holds this term.
  static func ownerHolder(
    _ session: Connection, term: Int32?
  ) async throws -> (holder: Holder, hasTerm: Bool)? {
    guard let holder = try await holders(session, of: owner).first else { return nil }
    let hasTerm = try await session.query(
      """
      SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
                     WHERE \(held) AND objid = \(literal: term ?? 0) AND pid = \(holder.process))
      """
    ).onlyRow(as: Bool.self)
    return (holder, term != nil && hasTerm)
  }

  static func fenceHolders(_ session: Connection) async throws -> [Holder] {
    try await holders(session, of: fence)
  }

  private static func holders(_ session: Connection, of lock: Int32) async throws -> [Holder] {
    // For a session of another role, PostgreSQL can hide the address and the start time.
    try await session.query(
      """
      SELECT l.pid::bigint, 'PostgreSQL''s process ' || l.pid
             || coalesce(' of the role ' || a.usename, '')
             || coalesce(' from ' || pg_catalog.host(a.client_addr), '')
             || coalesce(', since ' || \(SQL.utc("a.backend_start")), '')
      FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a USING (pid)
      WHERE \(held) AND l.objid = \(literal: lock) AND l.pid <> pg_catalog.pg_backend_pid()
      ORDER BY l.pid
      """
    ).rows(as: Int64.self, String.self).map { Holder(process: $0.0, description: $0.1) }
  }

  /// Terminates the holder's session.
  /// - Returns: false if the role lacks the privilege.
  static func terminate(_ holder: Holder, _ session: Connection) async throws -> Bool {
    do {
      _ = try await session.query(
        "SELECT pg_catalog.pg_terminate_backend(\(holder.process)::integer)")
      return true
    } catch let error as PostgreSQLError where error.state == .insufficientPrivilege {
      return false
    }
  }
}
