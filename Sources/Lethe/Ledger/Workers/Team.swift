import CrashPoints
public import PostgreSQL
import Vocabulary

/// Whether a process works on a pipeline together with other processes.
public enum TeamMode: Sendable, Equatable {
  /// No other process may work on the pipeline.
  case alone
  /// The process starts a team. It does not join another one.
  case first
  /// The process joins the team that works on the pipeline. If there is none, it starts one.
  case joining
}

/// The processes that work on a pipeline at the same time.
extension WorkerLedger {
  public enum Membership: Sendable, Equatable {
    /// This worker is the only one. `former` are the workers whose leases had expired, or whose processes had ended.
    case started(former: [LeaseHolder])
    /// The worker has joined the team of the others.
    case joined(team: String, others: [LeaseHolder])
    case refused(by: LeaseHolder)
  }

  /// Makes this worker one of those that work on a pipeline, if these admit it. Ends the workers of the pipeline whose
  /// leases have expired or whose processes have ended.
  ///
  /// - Parameter hasEnded: whether a process is known to have ended.
  /// - Throws: `LedgerError` `.refused` if the sessions of a former worker cannot be terminated.
  public func enter(
    _ pipeline: String, as mode: TeamMode, on connection: Connection,
    hasEnded: @escaping @Sendable (ProcessIdentity) -> Bool
  ) async throws -> Membership {
    try await afterDeadlocks {
      try await connection.withTransaction(recording: .pipelineEntered) { transaction in
        try await transaction.execute("SET LOCAL lock_timeout = \(literal: Self.lockTimeout)")
        _ = try await transaction.query(
          "SELECT pg_advisory_xact_lock(hashtext('lethe.team'), hashtext(\(pipeline)))")
        return try await enter(pipeline, as: mode, on: transaction, hasEnded)
      }
    }
  }

  private func enter(
    _ pipeline: String, as mode: TeamMode, on transaction: Transaction,
    _ hasEnded: @Sendable (ProcessIdentity) -> Bool
  ) async throws -> Membership {
    var former: [LeaseHolder] = []
    var others: [Member] = []
    for seen in try await members(of: pipeline, on: transaction) {
      guard seen.hasExpired || hasEnded(seen.holder.process) else {
        others.append(seen)
        continue
      }
      // A process that was stopped within a transaction keeps its locks until its session ends.
      try await terminateSessions(of: seen.token, seen.holder, on: transaction)
      // It may have renewed its leases since it was read.
      let locked = try await members(of: pipeline, only: seen.token, on: transaction).first
      guard let locked else { continue }
      if locked.hasExpired || hasEnded(locked.holder.process) {
        try await end(locked.token, locked.holder, on: transaction)
        former.append(locked.holder)
      } else {
        others.append(locked)
      }
    }
    let team = others.last?.team ?? lease.token
    let isRefused = others.contains { !$0.holder.isJoinable }
    if let first = others.first, isRefused || mode != .joining {
      return .refused(by: first.holder)
    }
    try await ChunkQueries.guarded(
      transaction, "the lease of this process",
      """
      UPDATE lethe.worker
      SET pipeline = \(pipeline), team = \(team)::uuid, is_joinable = \(mode != .alone)
      WHERE lease = \(lease.token)::uuid
      """)
    return others.isEmpty
      ? .started(former: former) : .joined(team: team, others: others.map(\.holder))
  }

  /// Another worker of the pipeline.
  private struct Member {
    let token: String
    let team: String
    let holder: LeaseHolder
    let hasExpired: Bool
  }

  /// The other workers of the pipeline, the oldest first.
  /// - Parameter token: only the worker with this token, and its row is locked. Nil for all, without a lock.
  private func members(
    of pipeline: String, only token: String? = nil, on transaction: Transaction
  ) async throws -> [Member] {
    let lock: SQL = token == nil ? "" : "FOR UPDATE"
    return try await transaction.query(
      """
      SELECT lease::text, \(Self.workerColumns), \(SQL.utc("w.started_at")) AS since, team::text
      FROM lethe.worker AS w
      WHERE pipeline = \(pipeline) AND lease <> \(lease.token)::uuid
        AND (\(token)::uuid IS NULL OR lease = \(token)::uuid)
      ORDER BY started_at, lease \(lock)
      """
    ).rows.map { row in
      Member(
        token: try row["lease"], team: try row["team"],
        holder: try Self.holder(row, since: row["since"]), hasExpired: try row["has_expired"])
    }
  }

  /// A worker and what it has leased.
  public struct Activity: Sendable {
    public let holder: LeaseHolder
    /// What the worker works on now, in words, such as `apply of chunk 12 of posts`.
    public let work: [String]
  }

  /// The workers whose leases have not expired, the oldest first.
  /// - Parameter pipeline: nil for all pipelines.
  public static func activities(
    of pipeline: String?, on session: some Session
  ) async throws -> [Activity] {
    try await session.query(
      """
      SELECT \(workerColumns), \(SQL.utc("w.started_at")) AS since,
             (SELECT coalesce(pg_catalog.string_agg(
                       CASE split_part(l.resource, ' ', 1)
                         WHEN 'export' THEN regexp_replace(l.resource, '^export [0-9]+ ', 'export of ')
                         WHEN 'slot' THEN 'slot of ' || split_part(l.resource, ' ', 2)
                         WHEN 'chunk' THEN (SELECT (CASE WHEN c.state IN (\(states: [.exported, .created])) THEN 'submit'
                                                         WHEN c.state = \(state: .uploaded) THEN 'await'
                                                         WHEN c.state = \(state: .complete) THEN 'collect'
                                                         ELSE 'apply' END)
                                                   || ' of chunk ' || c.chunk_id || ' of ' || c.dataset
                                            FROM lethe.chunk AS c
                                            WHERE c.chunk_id = split_part(l.resource, ' ', 2)::bigint)
                         ELSE 'end of the run' END, E'\\n' ORDER BY l.since), '')
              FROM lethe.lease AS l WHERE l.lease = w.lease AND l.resource NOT LIKE 'apply %') AS work
      FROM lethe.worker AS w
      WHERE w.pipeline IS NOT NULL AND (\(pipeline)::text IS NULL OR w.pipeline = \(pipeline)::text)
        AND w.expires_at > clock_timestamp()
      ORDER BY w.started_at, w.lease
      """
    ).rows.map { row in
      let work: String = try row["work"]
      return Activity(
        holder: try holder(row, since: row["since"]),
        work: work.split(separator: "\n").map(String.init))
    }
  }

  /// Whether another worker is in this worker's team now.
  public func hasTeammates(on session: some Session) async throws -> Bool {
    try await session.query(
      """
      SELECT EXISTS (SELECT FROM lethe.worker AS o JOIN lethe.worker AS w USING (team)
                     WHERE w.lease = \(lease.token)::uuid AND o.lease <> w.lease)
      """
    ).onlyRow(as: Bool.self)
  }

  /// The hosts of a pipeline's workers whose leases have not expired.
  public static func hosts(ofPipeline name: String, on session: some Session) async throws -> Set<
    String
  > {
    Set(
      try await session.query(
        """
        SELECT DISTINCT host FROM lethe.worker WHERE pipeline = \(name) AND expires_at > clock_timestamp()
        """
      ).rows(as: String.self))
  }
}
