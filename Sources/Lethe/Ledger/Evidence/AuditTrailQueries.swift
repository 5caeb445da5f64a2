import Foundation
import PostgreSQL
public import Vocabulary

extension AuditLedger {
  /// Everything that the ledger knows of an ID, as of one moment.
  /// - Parameter type: only as an ID of this type; an ID may be a post's and a user's at once.
  public func trail(of id: Int64, type: JobType?) async throws -> AuditTrail {
    try await connection.withTransaction(isolationLevel: .repeatableRead, readOnly: true) {
      // Before the moment is fixed: a table that is emptied afterwards would be empty in it, too.
      try await $0.execute("LOCK TABLE lethe.collected IN ACCESS SHARE MODE")
      return try await TrailQueries(
        session: $0, parameters: [.integer(id), Parameter(type?.rawValue)]
      ).trail(of: id)
    }
  }
}

struct TrailQueries {
  let session: Transaction
  /// The ID ($1) and the type or null ($2).
  let parameters: [Parameter]

  func trail(of id: Int64) async throws -> AuditTrail {
    var trail = AuditTrail(id: id)
    trail.events = try await events()
    trail.waiting = try await waiting()
    trail.refusals = try await refusals()
    trail.approvals = try await approvals()
    trail.adoptions = try await adoptions()
    trail.checks = try await checks(trail)
    trail.lastChecks = try await lastChecks()
    trail.tombstones = try await remainders("lethe.tombstone", "deleted_at")
    trail.withdrawals = try await withdrawals()
    trail.rehydrations = try await remainders("lethe.rehydration", "queued_at")
    trail.protections = try await protections()
    let holds = HoldStoryQueries(session: session, parameters: parameters)
    trail.holds = try await holds.stories()
    trail.releases = try await holds.releases()
    trail.quarantined = try await quarantined()
    return trail
  }

  func utc(_ expression: String) -> String { AuditLedger.utc(expression) }

  func ofType(_ column: String) -> String {
    "($2::text IS NULL OR \(column) = $2::lethe.job_type)"
  }

  // MARK: Checks

  private func checks(_ trail: AuditTrail) async throws -> [AuditTrail.Check] {
    let answered = Set(trail.events.filter { $0.causeID == nil }.map(\.chunkID))
    let open = Set(trail.waiting.map(\.chunkID))
    let refused = Set(trail.refusals.map(\.chunkID))
    return try await session.run(
      """
      SELECT c.chunk_id, c.run_id, r.pipeline, c.dataset, c.type::text, c.first_id, c.last_id,
             c.state::text, coalesce(c.failure, c.stopped_reason),
             \(utc("c.exported_at")), \(utc("c.completed_at")), \(utc("c.collected_at")),
             \(utc("c.applied_at")),
             j.job_id, j.api_id, \(utc("j.asked_at")), encode(j.result_sha256, 'hex'),
             s.number, encode(s.sha256, 'hex'), \(Self.isPruned), \(Self.said)
      FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
      LEFT JOIN LATERAL (
        SELECT * FROM lethe.job WHERE chunk_id = c.chunk_id
        ORDER BY result_sha256 IS NULL, attempt DESC LIMIT 1
      ) AS j ON true
      LEFT JOIN LATERAL (
        SELECT * FROM lethe.seal WHERE chunk_id = c.chunk_id ORDER BY number DESC LIMIT 1
      ) AS s ON true
      WHERE c.first_id <= $1 AND c.last_id >= $1 AND \(ofType("c.type"))
      ORDER BY coalesce(j.asked_at, c.exported_at), c.chunk_id
      """, parameters
    ).rows(
      as: Int64.self, Int64.self, String.self, String.self, JobType.self, Int64.self, Int64.self,
      ChunkState.self, String?.self, String.self, String?.self, String?.self, String?.self,
      Int64?.self, String?.self, String?.self, String?.self, Int64?.self, String?.self, Bool.self,
      String.self
    ).map { row in
      var check = AuditTrail.Check(
        chunkID: row.0, runID: row.1, pipeline: row.2, dataset: row.3, type: row.4,
        firstID: row.5, lastID: row.6, state: row.7, halt: row.8, exportedAt: row.9,
        completedAt: row.10, collectedAt: row.11, appliedAt: row.12,
        job: Self.job(row.13, row.14), askedAt: row.15, resultSHA256: row.16,
        seal: row.17.flatMap { number in row.18.map { .init(number: number, sha256: $0) } })
      check.answer =
        answered.contains(check.chunkID)
        ? .event
        : refused.contains(check.chunkID)
          ? .refused
          : Self.answer(check, isOpen: open.contains(check.chunkID), isPruned: row.19, row.20)
      return check
    }
  }

  /// Whether the record of an event about the ID would be gone by now: the batch that went over the ID,
  /// or for a chunk from before there were batches its end, lies before what was pruned.
  private static let isPruned = """
    coalesce(c.events > 0 AND coalesce(
      (SELECT max(b.applied_at) FROM lethe.batch AS b
       WHERE b.chunk_id = c.chunk_id AND b.after_id < $1 AND b.through_id >= $1),
      CASE WHEN NOT EXISTS (SELECT FROM lethe.batch AS b WHERE b.chunk_id = c.chunk_id)
           THEN c.applied_at END) < \(AuditLedger.prunedThrough)::timestamptz, false)
    """

  /// What a result that has no event about the ID says of it. A failed chunk that once had events and has
  /// none any more has lost them to newer answers.
  private static let said = """
    CASE WHEN c.state = 'failed' AND c.events > 0
              AND NOT EXISTS (SELECT FROM lethe.collected AS s WHERE s.chunk_id = c.chunk_id)
         THEN '\(AuditTrail.Answer.overtaken.rawValue)'
         WHEN EXISTS (SELECT FROM lethe.speaks_by_silence(j.job_id, $1))
         THEN '\(AuditTrail.Answer.noEvent.rawValue)'
         ELSE '\(AuditTrail.Answer.notTold.rawValue)' END
    """

  private static func answer(
    _ check: AuditTrail.Check, isOpen: Bool, isPruned: Bool, _ said: String
  ) -> AuditTrail.Answer {
    let silent = isPruned ? .pruned : AuditTrail.Answer(rawValue: said) ?? .notTold
    return switch check.state {
    case .exported, .created, .uploaded, .complete: .unanswered
    case .collected, .applied: isOpen ? .waiting : silent
    case .failed: isOpen ? .notApplied : check.resultSHA256 == nil ? .failed : silent
    }
  }

  static func job(_ id: Int64?, _ apiID: String?) -> AuditTrail.Job? {
    id.map { AuditTrail.Job(id: $0, apiID: apiID) }
  }

  private func lastChecks() async throws -> [AuditTrail.LastCheck] {
    try await session.run(
      """
      SELECT v.pipeline, v.dataset, c.type::text, \(utc("v.checked_at")), v.chunk_id
      FROM lethe.coverage AS v JOIN lethe.chunk AS c ON c.chunk_id = v.chunk_id
      WHERE v.first_id <= $1 AND v.last_id >= $1 AND \(ofType("c.type"))
      ORDER BY v.checked_at, v.pipeline, v.dataset
      """, parameters
    ).rows(as: String.self, String.self, JobType.self, String.self, Int64.self).map {
      AuditTrail.LastCheck(pipeline: $0.0, dataset: $0.1, type: $0.2, at: $0.3, chunkID: $0.4)
    }
  }

  // MARK: Events

  private func events() async throws -> [AuditTrail.Event] {
    try await session.run(
      """
      WITH trace AS MATERIALIZED (\(Self.traces)), record AS (
        SELECT type, reason, action, chunk_id, job_id, created_at, redacted_at, applied_at, changed,
               cause_id, superseded_by
        FROM lethe.event WHERE id = $1
        UNION ALL
        SELECT t.type, t.reason, t.action, t.chunk_id, t.job_id, o.created_at, o.redacted_at, t.applied_at,
               NULL, NULL, NULL
        FROM trace AS t LEFT JOIN LATERAL (\(Self.timesOfTrace)) AS o ON true
      )
      SELECT e.type::text, e.reason::text, e.action::text, r.pipeline, c.dataset, e.chunk_id,
             e.job_id, j.api_id, \(utc("e.created_at")), \(utc("e.redacted_at")),
             \(utc("e.applied_at")), e.changed::text, e.cause_id, c.type::text, e.superseded_by,
             n.api_id
      FROM record AS e
      LEFT JOIN lethe.chunk AS c ON c.chunk_id = e.chunk_id
      LEFT JOIN lethe.run AS r ON r.run_id = c.run_id
      LEFT JOIN lethe.job AS j ON j.job_id = e.job_id
      LEFT JOIN lethe.job AS n ON n.job_id = e.superseded_by
      WHERE \(ofType("e.type"))
      ORDER BY e.applied_at, e.chunk_id, e.cause_id NULLS FIRST
      """, parameters
    ).rows(
      as: JobType.self, String.self, String.self, String?.self, String?.self, Int64.self,
      Int64.self, String?.self, String?.self, String?.self, String.self, String?.self,
      Int64?.self, JobType?.self, Int64?.self, String?.self
    ).map { row in
      AuditTrail.Event(
        type: row.0, reason: row.1, action: row.2, pipeline: row.3, dataset: row.4,
        chunkID: row.5, job: .init(id: row.6, apiID: row.7), createdAt: row.8,
        redactedAt: row.9, appliedAt: row.10, changed: try Self.counts(row.11),
        causeID: row.12, causeType: row.12 == nil ? nil : row.13,
        supersededBy: Self.job(row.14, row.15))
    }
  }

  /// The traces that hold the ID, and its place in each.
  private static let traces = """
    SELECT t.*, p.place, c.dataset, r.pipeline
    FROM lethe.trace AS t JOIN lethe.chunk AS c ON c.chunk_id = t.chunk_id
    JOIN lethe.run AS r ON r.run_id = c.run_id,
         LATERAL (SELECT \(AuditLedger.place(of: "$1", in: "t")) AS place OFFSET 0) AS p
    WHERE numrange(t.first_id, t.last_id, '[]') @> $1::numeric AND p.place IS NOT NULL
    """

  /// The times of the event of a trace `t`: its own, or those of the record that it repeats.
  private static let timesOfTrace = """
    SELECT t.created_at[t.place] AS created_at, t.redacted_at[t.place] AS redacted_at
    WHERE t.created_at IS NOT NULL
    UNION ALL
    (SELECT e.created_at, e.redacted_at
     FROM lethe.event AS e JOIN lethe.chunk AS c ON c.chunk_id = e.chunk_id
     JOIN lethe.run AS r ON r.run_id = c.run_id
     WHERE t.created_at IS NULL AND e.id = $1 AND e.type = t.type AND e.cause_id IS NULL
       AND e.superseded_by IS NULL AND e.applied_at <= t.applied_at
       AND c.dataset = t.dataset AND r.pipeline = t.pipeline
     ORDER BY e.applied_at DESC LIMIT 1)
    """

  static func counts(_ json: String?) throws -> [String: Int] {
    guard let json else { return [:] }
    return try JSONDecoder().decode([String: Int].self, from: Data(json.utf8))
  }

  /// A chunk that is being applied keeps its events until the last one is; one that has failed, until newer
  /// answers have overtaken them.
  private func waiting() async throws -> [AuditTrail.Waiting] {
    try await session.run(
      """
      SELECT c.chunk_id, c.state::text, c.type::text, w.reason::text, \(utc("w.created_at")),
             \(utc("w.redacted_at")), \(utc("c.collected_at")), w.restores, w.superseded_by,
             n.api_id
      FROM lethe.chunk AS c JOIN lethe.collected AS w USING (chunk_id)
      LEFT JOIN lethe.job AS n ON n.job_id = w.superseded_by
      WHERE c.state IN ('collected', 'failed') AND w.id = $1 AND w.id > c.applied_through
        AND \(ofType("c.type"))
      ORDER BY c.collected_at, c.chunk_id
      """, parameters
    ).rows(
      as: Int64.self, ChunkState.self, JobType.self, String.self, String?.self, String?.self,
      String.self, Bool.self, Int64?.self, String?.self
    ).map {
      AuditTrail.Waiting(
        chunkID: $0.0, state: $0.1, type: $0.2, reason: $0.3, createdAt: $0.4, redactedAt: $0.5,
        collectedAt: $0.6, restores: $0.7, supersededBy: Self.job($0.8, $0.9))
    }
  }

  // MARK: What remains

  private func remainders(
    _ table: String, _ time: String
  ) async throws -> [AuditTrail.Remainder] {
    try await session.run(
      """
      SELECT t.type::text, t.reason::text, t.job_id, j.api_id, \(utc("t.\(time)"))
      FROM \(table) AS t LEFT JOIN lethe.job AS j USING (job_id)
      WHERE t.id = $1 AND \(ofType("t.type")) ORDER BY t.\(time)
      """, parameters
    ).rows(as: JobType.self, String.self, Int64.self, String?.self, String.self).map {
      AuditTrail.Remainder(
        type: $0.0, reason: $0.1, job: .init(id: $0.2, apiID: $0.3), at: $0.4)
    }
  }

  private func withdrawals() async throws -> [AuditTrail.Withdrawal] {
    try await session.run(
      """
      SELECT w.type::text, w.reason::text, w.job_id, j.api_id, \(utc("w.deleted_at")), w.table_name,
             w.seal, \(utc("s.sealed_at")), s.content::jsonb ->> 'by', s.content::jsonb ->> 'note'
      FROM lethe.withdrawn_tombstone AS w JOIN lethe.seal AS s ON s.number = w.seal
      LEFT JOIN lethe.job AS j ON j.job_id = w.job_id
      WHERE w.id = $1 AND \(ofType("w.type")) ORDER BY w.seal
      """, parameters
    ).rows(
      as: JobType.self, String.self, Int64.self, String?.self, String.self, String.self,
      Int64.self, String.self, String?.self, String?.self
    ).map {
      AuditTrail.Withdrawal(
        type: $0.0, reason: $0.1, job: .init(id: $0.2, apiID: $0.3), deletedAt: $0.4,
        table: $0.5, sealNumber: $0.6, at: $0.7, by: $0.8, note: $0.9)
    }
  }

  private func protections() async throws -> [AuditTrail.Protection] {
    try await session.run(
      """
      SELECT p.pipeline, p.dataset, p.chunk_id, \(utc("p.protected_at")), \(utc("p.asked_at"))
      FROM lethe.protection AS p LEFT JOIN lethe.chunk AS c USING (chunk_id)
      WHERE p.id = $1 AND \(ofType("c.type")) ORDER BY p.protected_at, p.pipeline, p.dataset
      """, parameters
    ).rows(as: String.self, String.self, Int64.self, String.self, String.self).map {
      AuditTrail.Protection(
        pipeline: $0.0, dataset: $0.1, chunkID: $0.2, protectedAt: $0.3, askedAt: $0.4)
    }
  }

  private func quarantined() async throws -> [AuditTrail.QuarantinedLine] {
    try await session.run(
      """
      SELECT q.chunk_id, c.type::text, q.job_id, j.api_id, q.line, q.raw, q.why,
             \(utc("q.quarantined_at")), \(utc("q.resolved_at")), q.resolution, q.note
      FROM lethe.quarantine AS q JOIN lethe.chunk AS c USING (chunk_id)
      LEFT JOIN lethe.job AS j USING (job_id)
      WHERE q.id = $1 AND \(ofType("c.type")) ORDER BY q.quarantined_at, q.quarantine_id
      """, parameters
    ).rows(
      as: Int64.self, JobType.self, Int64.self, String?.self, Int64.self, [UInt8].self,
      String.self, String.self, String?.self, String?.self, String?.self
    ).map {
      AuditTrail.QuarantinedLine(
        chunkID: $0.0, type: $0.1, job: .init(id: $0.2, apiID: $0.3), line: $0.4,
        raw: String(decoding: $0.5, as: UTF8.self), why: $0.6, at: $0.7, resolvedAt: $0.8,
        resolution: $0.9, note: $0.10)
    }
  }
}
