internal import PostgreSQL

/// The advisory locks by which one server alone works on a database. All are gone with their sessions, so a server
/// that is killed leaves nothing to clear away.
///
/// - `owner`: the session that holds it makes its server the database's.
/// - `term`: a number that this session holds beside it. By it, its server's other sessions know it again.
/// - `fence`: each session that changes the database shares it, and asks for `term` only then. A server that has
///   become the owner waits until it has had the fence alone: no session of an earlier one is left, and none that is
///   made later finds its term.
enum OwnershipLocks {
  private static let group: SQL = "pg_catalog.hashtext('compliance.server')"
  private static let owner: Int32 = 0
  private static let fence: Int32 = 1

  /// Of `pg_locks`: held locks of the group in this database.
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

  /// Takes a term that nobody has.
  static func newTerm(_ session: Connection) async throws -> Int32 {
    while true {
      let term = Int32.random(in: (fence + 1)...Int32.max)
      let isNew = try await session.query(
        "SELECT pg_catalog.pg_try_advisory_lock(\(group), \(literal: term))"
      ).onlyRow(as: Bool.self)
      if isNew { return term }
    }
  }

  /// Whether no session shares the fence; asked by the owner.
  static func isAlone(_ session: Connection) async throws -> Bool {
    try await session.query(
      """
      SELECT CASE WHEN pg_catalog.pg_try_advisory_lock(\(group), \(literal: fence))
                  THEN pg_catalog.pg_advisory_unlock(\(group), \(literal: fence)) ELSE false END
      """
    ).onlyRow(as: Bool.self)
  }

  /// Has a session share the fence.
  /// - Returns: false if the database is not this term's server's, and the session must not be used.
  static func join(_ session: Connection, term: Int32) async throws -> Bool {
    let shares = try await session.query(
      "SELECT pg_catalog.pg_try_advisory_lock_shared(\(group), \(literal: fence))"
    ).onlyRow(as: Bool.self)
    guard shares else { return false }
    // One look at all locks: they are not released all at once.
    return try await session.query(
      """
      SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE \(held) AND objid IN (\(literal: owner), \(literal: term))
                     GROUP BY pid HAVING pg_catalog.count(*) = 2)
      """
    ).onlyRow(as: Bool.self)
  }

  // MARK: Who

  /// A session that has one of the locks.
  struct Holder: Sendable {
    let process: Int64
    /// Such as `PostgreSQL's process 4711 of the role app from 10.0.0.1, since 2026-11-01T00:00:00Z`.
    let description: String
  }

  /// The session of the server that has the database, and whether it has this term.
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
    // Of sessions of others, PostgreSQL may show no more than the role.
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

  /// - Returns: false if the role may not.
  static func end(_ holder: Holder, _ session: Connection) async throws -> Bool {
    do {
      _ = try await session.query(
        "SELECT pg_catalog.pg_terminate_backend(\(holder.process)::integer)")
      return true
    } catch let error as PostgreSQLError where error.state == .insufficientPrivilege {
      return false
    }
  }
}
