import Foundation
import Ledger
import PostgreSQL
public import Vocabulary

extension AuditLedger {
  /// Returns everything that the ledger contains about an ID at one moment.
  /// - Parameter type: only records of the ID with this type, because a post and a user can have the same ID. Nil for
  ///   all.
  public func trail(of id: Int64, type: JobType?) async throws -> AuditTrail {
    try await connection.withTransaction(isolationLevel: .repeatableRead, readOnly: true) {
      // The lock is taken before the snapshot. Without the lock, another session could truncate the table after the
      // snapshot, and this transaction would see an empty table.
      try await $0.execute("LOCK TABLE lethe.collected IN ACCESS SHARE MODE")
      return try await TrailQueries(
        session: $0, id: "\(id)", type: "\(type?.rawValue)"
      ).trail(of: id)
    }
  }
}

struct TrailQueries {
  let session: Transaction
  let id: SQL
  /// The type's label, or NULL.
  let type: SQL

  func trail(of id: Int64) async throws -> AuditTrail {
    var trail = AuditTrail(id: id)
    trail.events = try await events()
    trail.waiting = try await waiting()
    trail.refusals = try await refusals()
    trail.approvals = try await approvals()
    trail.adoptions = try await adoptions()
    trail.checks = try await checks(trail)
    trail.lastChecks = try await lastChecks()
    trail.tombstones = try await entries("lethe.tombstone", "deleted_at")
    trail.withdrawals = try await withdrawals()
    trail.rehydrations = try await entries("lethe.rehydration", "queued_at")
    trail.protections = try await protections()
    let holds = HoldHistoryQueries(session: session, id: self.id, type: type)
    trail.holds = try await holds.histories()
    trail.releases = try await holds.releases()
    trail.quarantined = try await quarantined()
    return trail
  }

  func utc(_ expression: SQL) -> SQL { AuditLedger.utc(expression) }

  func ofType(_ column: SQL) -> SQL {
    "(\(type)::text IS NULL OR \(column) = \(type)::lethe.job_type)"
  }

  // MARK: Checks

  private func checks(_ trail: AuditTrail) async throws -> [AuditTrail.Check] {
    let answered = Set(trail.events.filter { $0.causeID == nil }.map(\.chunkID))
    let open = Set(trail.waiting.map(\.chunkID))
    let refused = Set(trail.refusals.map(\.chunkID))
    return try await session.run(
      """
      SELECT c.chunk_id, c.run_id, r.pipeline, c.dataset, c.type::text, c.first_id, c.last_id,
             c.state::text, coalesce(c.failure, c.stopped_reason) AS halt,
             \(utc("c.exported_at")) AS exported_at, \(utc("c.completed_at")) AS completed_at,
               \(utc("c.collected_at")) AS collected_at,
             \(utc("c.applied_at")) AS applied_at,
             j.job_id, j.api_id, \(utc("j.asked_at")) AS asked_at,
               encode(j.result_sha256, 'hex') AS result_sha256,
             s.number, encode(s.sha256, 'hex') AS seal_sha256, \(isPruned) AS is_pruned, \(answerWithoutEvent) AS answer
      FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
      LEFT JOIN LATERAL (
        SELECT * FROM lethe.job WHERE chunk_id = c.chunk_id
        ORDER BY result_sha256 IS NULL, attempt DESC LIMIT 1
      ) AS j ON true
      LEFT JOIN LATERAL (
        SELECT * FROM lethe.seal WHERE chunk_id = c.chunk_id ORDER BY number DESC LIMIT 1
      ) AS s ON true
      WHERE c.first_id <= \(id) AND c.last_id >= \(id) AND \(ofType("c.type"))
      ORDER BY coalesce(j.asked_at, c.exported_at), c.chunk_id
      """
    ).rows.map { row in
      var check = try AuditTrail.Check(
        chunkID: row["chunk_id"], runID: row["run_id"], pipeline: row["pipeline"],
        dataset: row["dataset"], type: row["type"],
        firstID: row["first_id"], lastID: row["last_id"], state: row["state"], halt: row["halt"],
        exportedAt: row["exported_at"],
        completedAt: row["completed_at"], collectedAt: row["collected_at"],
        appliedAt: row["applied_at"],
        job: Self.job(row["job_id"], row["api_id"]), askedAt: row["asked_at"],
        resultSHA256: row["result_sha256"],
        seal: Self.seal(row["number"], row["seal_sha256"]))
      check.answer =
        answered.contains(check.chunkID)
        ? .event
        : refused.contains(check.chunkID)
          ? .refused
          : try Self.answer(
            check, isOpen: open.contains(check.chunkID), isPruned: row["is_pruned"], row["answer"])
      return check
    }
  }

  /// SQL: whether an event record about the ID would be pruned by now. This is true if the batch that contained the ID
  /// is in the pruned period. For chunks of versions without batches, the time when the chunk was applied is used.
  private var isPruned: SQL {
    """
    coalesce(c.events > 0 AND coalesce(
      (SELECT max(b.applied_at) FROM lethe.batch AS b
       WHERE b.chunk_id = c.chunk_id AND b.after_id < \(id) AND b.through_id >= \(id)),
      CASE WHEN NOT EXISTS (SELECT FROM lethe.batch AS b WHERE b.chunk_id = c.chunk_id)
           THEN c.applied_at END) < \(PastEvents.prunedThrough)::timestamptz, false)
    """
  }

  /// SQL: the answer of a result without an event about the ID. If a failed chunk had events and has none now, usually
  /// newer answers have superseded those that were not applied.
  private var answerWithoutEvent: SQL {
    """
    CASE WHEN c.state = \(state: .failed) AND c.events > 0
              AND NOT EXISTS (SELECT FROM lethe.collected AS s WHERE s.chunk_id = c.chunk_id)
         THEN \(literal: AuditTrail.Answer.superseded.rawValue)
         WHEN EXISTS (SELECT FROM lethe.speaks_by_silence(j.job_id, \(id)))
         THEN \(literal: AuditTrail.Answer.noEvent.rawValue)
         ELSE \(literal: AuditTrail.Answer.unclear.rawValue) END
    """
  }

  private static func answer(
    _ check: AuditTrail.Check, isOpen: Bool, isPruned: Bool, _ answer: String
  ) -> AuditTrail.Answer {
    let silent = isPruned ? .pruned : AuditTrail.Answer(rawValue: answer) ?? .unclear
    return switch check.state {
    case .exported, .created, .uploaded, .complete: .unanswered
    case .collected, .applied: isOpen ? .waiting : silent
    case .failed: isOpen ? .notApplied : check.resultSHA256 == nil ? .failed : silent
    }
  }

  private static func seal(_ number: Int64?, _ sha256: String?) -> AuditTrail.Seal? {
    guard let number, let sha256 else { return nil }
    return AuditTrail.Seal(number: number, sha256: sha256)
  }

  static func job(_ id: Int64?, _ apiID: String?) -> AuditTrail.Job? {
    id.map { AuditTrail.Job(id: $0, apiID: apiID) }
  }

  private func lastChecks() async throws -> [AuditTrail.LastCheck] {
    try await session.run(
      """
      SELECT v.pipeline, v.dataset, c.type::text, \(utc("v.checked_at")) AS at, v.chunk_id
      FROM lethe.coverage AS v JOIN lethe.chunk AS c ON c.chunk_id = v.chunk_id
      WHERE v.first_id <= \(id) AND v.last_id >= \(id) AND \(ofType("c.type"))
      ORDER BY v.checked_at, v.pipeline, v.dataset
      """
    ).rows.map { row in
      try AuditTrail.LastCheck(
        pipeline: row["pipeline"], dataset: row["dataset"], type: row["type"], at: row["at"],
        chunkID: row["chunk_id"])
    }
  }

  // MARK: Events

  private func events() async throws -> [AuditTrail.Event] {
    try await session.run(
      """
      WITH trace AS MATERIALIZED (\(traces)), record AS (
        SELECT type, reason, action, chunk_id, job_id, created_at, redacted_at, applied_at, changed,
               cause_id, superseded_by
        FROM lethe.event WHERE id = \(id)
        UNION ALL
        SELECT t.type, t.reason, t.action, t.chunk_id, t.job_id, o.created_at, o.redacted_at, t.applied_at,
               NULL, NULL, NULL
        FROM trace AS t LEFT JOIN LATERAL (\(timesOfTrace)) AS o ON true
      )
      SELECT e.type::text, e.reason::text, e.action::text, r.pipeline, c.dataset, e.chunk_id,
             e.job_id, j.api_id, \(utc("e.created_at")) AS created_at,
               \(utc("e.redacted_at")) AS redacted_at,
             \(utc("e.applied_at")) AS applied_at, e.changed::text, e.cause_id,
               c.type::text AS cause_type, e.superseded_by,
             n.api_id AS newer_api_id
      FROM record AS e
      LEFT JOIN lethe.chunk AS c ON c.chunk_id = e.chunk_id
      LEFT JOIN lethe.run AS r ON r.run_id = c.run_id
      LEFT JOIN lethe.job AS j ON j.job_id = e.job_id
      LEFT JOIN lethe.job AS n ON n.job_id = e.superseded_by
      WHERE \(ofType("e.type"))
      ORDER BY e.applied_at, e.chunk_id, e.cause_id NULLS FIRST
      """
    ).rows.map { row in
      try AuditTrail.Event(
        type: row["type"], reason: row["reason"], action: row["action"], pipeline: row["pipeline"],
        dataset: row["dataset"],
        chunkID: row["chunk_id"], job: .init(id: row["job_id"], apiID: row["api_id"]),
        createdAt: row["created_at"],
        redactedAt: row["redacted_at"], appliedAt: row["applied_at"],
        changed: Self.counts(row["changed"]),
        causeID: row["cause_id"],
        causeType: row.decode(Int64?.self, "cause_id") == nil ? nil : row["cause_type"],
        supersededBy: Self.job(row["superseded_by"], row["newer_api_id"]))
    }
  }

  /// SQL: the traces that contain the ID, with its position in each.
  private var traces: SQL {
    """
    SELECT t.*, p.place, c.dataset, r.pipeline
    FROM lethe.trace AS t JOIN lethe.chunk AS c ON c.chunk_id = t.chunk_id
    JOIN lethe.run AS r ON r.run_id = c.run_id,
         LATERAL (SELECT \(PastEvents.position(of: id, in: "t")) AS place OFFSET 0) AS p
    WHERE numrange(t.first_id, t.last_id, '[]') @> \(id)::numeric AND p.place IS NOT NULL
    """
  }

  /// SQL: the times of the event in a trace `t`. They are in the trace, or in the record that the event repeats.
  private var timesOfTrace: SQL {
    """
    SELECT t.created_at[t.place] AS created_at, t.redacted_at[t.place] AS redacted_at
    WHERE t.created_at IS NOT NULL
    UNION ALL
    (SELECT e.created_at, e.redacted_at
     FROM lethe.event AS e JOIN lethe.chunk AS c ON c.chunk_id = e.chunk_id
     JOIN lethe.run AS r ON r.run_id = c.run_id
     WHERE t.created_at IS NULL AND e.id = \(id) AND e.type = t.type AND e.cause_id IS NULL
       AND e.superseded_by IS NULL AND e.applied_at <= t.applied_at
       AND c.dataset = t.dataset AND r.pipeline = t.pipeline
     ORDER BY e.applied_at DESC LIMIT 1)
    """
  }

  static func counts(_ json: String?) throws -> [String: Int] {
    guard let json else { return [:] }
    return try JSONDecoder().decode([String: Int].self, from: Data(json.utf8))
  }

  /// The collected events about the ID that are not applied. A chunk that is being applied keeps its events until the
  /// last event is applied. A failed chunk keeps its events until newer answers have superseded all of them.
  private func waiting() async throws -> [AuditTrail.Waiting] {
    try await session.run(
      """
      SELECT c.chunk_id, c.state::text, c.type::text, w.reason::text, \(utc("w.created_at")) AS created_at,
             \(utc("w.redacted_at")) AS redacted_at, \(utc("c.collected_at")) AS collected_at,
               w.restores, w.superseded_by,
             n.api_id
      FROM lethe.chunk AS c JOIN lethe.collected AS w USING (chunk_id)
      LEFT JOIN lethe.job AS n ON n.job_id = w.superseded_by
      WHERE c.state IN (\(states: ChunkState.withEvents)) AND w.id = \(id) AND w.id > c.applied_through
        AND \(ofType("c.type"))
      ORDER BY c.collected_at, c.chunk_id
      """
    ).rows.map { row in
      try AuditTrail.Waiting(
        chunkID: row["chunk_id"], state: row["state"], type: row["type"], reason: row["reason"],
        createdAt: row["created_at"], redactedAt: row["redacted_at"],
        collectedAt: row["collected_at"], restores: row["restores"],
        supersededBy: Self.job(row["superseded_by"], row["api_id"]))
    }
  }

  // MARK: Tombstones, protections and quarantined lines

  private func entries(
    _ table: SQL, _ time: SQL
  ) async throws -> [AuditTrail.IDEntry] {
    try await session.run(
      """
      SELECT t.type::text, t.reason::text, t.job_id, j.api_id, \(utc("t.\(time)")) AS at
      FROM \(table) AS t LEFT JOIN lethe.job AS j USING (job_id)
      WHERE t.id = \(id) AND \(ofType("t.type")) ORDER BY t.\(time)
      """
    ).rows.map { row in
      try AuditTrail.IDEntry(
        type: row["type"], reason: row["reason"],
        job: .init(id: row["job_id"], apiID: row["api_id"]), at: row["at"])
    }
  }

  private func withdrawals() async throws -> [AuditTrail.Withdrawal] {
    try await session.run(
      """
      SELECT w.type::text, w.reason::text, w.job_id, j.api_id, \(utc("w.deleted_at")) AS deleted_at,
        w.table_name,
             w.seal, \(utc("s.sealed_at")) AS at, s.content::jsonb ->> 'by' AS by,
               s.content::jsonb ->> 'note' AS note
      FROM lethe.withdrawn_tombstone AS w JOIN lethe.seal AS s ON s.number = w.seal
      LEFT JOIN lethe.job AS j ON j.job_id = w.job_id
      WHERE w.id = \(id) AND \(ofType("w.type")) ORDER BY w.seal
      """
    ).rows.map { row in
      try AuditTrail.Withdrawal(
        type: row["type"], reason: row["reason"],
        job: .init(id: row["job_id"], apiID: row["api_id"]), deletedAt: row["deleted_at"],
        table: row["table_name"], sealNumber: row["seal"], at: row["at"], by: row["by"],
        note: row["note"])
    }
  }

  private func protections() async throws -> [AuditTrail.Protection] {
    try await session.run(
      """
      SELECT p.pipeline, p.dataset, p.chunk_id, \(utc("p.protected_at")) AS protected_at,
        \(utc("p.asked_at")) AS asked_at
      FROM lethe.protection AS p LEFT JOIN lethe.chunk AS c USING (chunk_id)
      WHERE p.id = \(id) AND \(ofType("c.type")) ORDER BY p.protected_at, p.pipeline, p.dataset
      """
    ).rows.map { row in
      try AuditTrail.Protection(
        pipeline: row["pipeline"], dataset: row["dataset"], chunkID: row["chunk_id"],
        protectedAt: row["protected_at"], askedAt: row["asked_at"])
    }
  }

  private func quarantined() async throws -> [AuditTrail.QuarantinedLine] {
    try await session.run(
      """
      SELECT q.chunk_id, c.type::text, q.job_id, j.api_id, q.line, q.raw, q.why,
             \(utc("q.quarantined_at")) AS at, \(utc("q.resolved_at")) AS resolved_at, q.resolution, q.note
      FROM lethe.quarantine AS q JOIN lethe.chunk AS c USING (chunk_id)
      LEFT JOIN lethe.job AS j USING (job_id)
      WHERE q.id = \(id) AND \(ofType("c.type")) ORDER BY q.quarantined_at, q.quarantine_id
      """
    ).rows.map { row in
      try AuditTrail.QuarantinedLine(
        chunkID: row["chunk_id"], type: row["type"],
        job: .init(id: row["job_id"], apiID: row["api_id"]), line: row["line"],
        raw: String(decoding: row.decode([UInt8].self, "raw"), as: UTF8.self), why: row["why"],
        at: row["at"], resolvedAt: row["resolved_at"],
        resolution: row["resolution"], note: row["note"])
    }
  }
}
