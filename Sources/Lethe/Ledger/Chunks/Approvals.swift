import Foundation
import PostgreSQL
import Vocabulary

/// Somebody's word that a chunk which a limit has stopped may go on: kept with the chunk, and sealed.
extension ChunkLedger {
  /// - Parameters:
  ///   - by: who says so.
  ///   - note: why.
  /// - Returns: false if the chunk is not stopped.
  public func approve(
    chunkID: Int64, runID: Int64, by: String, note: String?
  ) async throws -> Bool {
    try await connection.withTransaction { transaction in
      guard
        let why = try await transaction.query(
          """
          UPDATE lethe.chunk AS c SET approved_at = clock_timestamp(), stopped_reason = NULL
          FROM (SELECT chunk_id, stopped_reason FROM lethe.chunk WHERE chunk_id = $1 FOR UPDATE) AS o
          WHERE c.chunk_id = o.chunk_id AND c.run_id = $2 AND c.state = 'collected'
            AND c.stopped_reason IS NOT NULL
          RETURNING o.stopped_reason
          """, .integer(chunkID), .integer(runID)
        ).firstRow(as: String.self)
      else { return false }
      let id = try await transaction.query(
        """
        INSERT INTO lethe.approval (chunk_id, stopped_reason, approved_by, note)
        VALUES ($1, $2, $3, $4) RETURNING approval_id
        """, .integer(chunkID), .prose(why), .prose(by), Parameter(prose: note)
      ).onlyRow(as: Int64.self)
      try await transaction.executeOne(
        """
        UPDATE lethe.approval
        SET seal_number = lethe.seal('approval', NULL, NULL, lethe.approval_content(approval_id))
        WHERE approval_id = $1
        """, .integer(id))
      return true
    }
  }

  /// How many events of a collected chunk wait, and how many of them newer answers have overtaken.
  public func waitingEvents(of chunk: Chunk) async throws -> (events: Int, overtaken: Int) {
    try await connection.query(
      "SELECT count(*), count(superseded_by) FROM lethe.collected WHERE chunk_id = $1",
      .integer(chunk.id)
    ).onlyRow(as: Int.self, Int.self)
  }
}

extension ChainVerifier {
  /// Who approved what, and why, is as it was sealed.
  mutating func verifyApproval(_ record: Record) async throws {
    guard case .number(let number)? = Self.values(record.content)?["approval_id"] else {
      result.found(
        "lethe.seal", record.key, "its content is none of an approval's",
        writtenAt: record.sealedAt)
      return
    }
    let id = NSDecimalNumber(decimal: number).int64Value
    let now = try await session.query("SELECT lethe.approval_content($1)", .integer(id))
      .onlyRow(as: String?.self)
    guard now != record.content else { return }
    result.found(
      "lethe.approval", "approval_id = \(id)",
      now == nil
        ? "the approval is missing: record \(record.number) is about it"
        : "it is not what record \(record.number) sealed",
      writtenAt: record.sealedAt)
  }

  mutating func requireSealOfEachApproval() async throws {
    let unsealed = try await session.query(
      """
      SELECT a.approval_id, \(AuditLedger.utc("a.approved_at")) FROM lethe.approval AS a
      WHERE NOT EXISTS (SELECT FROM lethe.seal AS s
                        WHERE s.kind = 'approval' AND s.number = a.seal_number)
      ORDER BY a.approval_id LIMIT $1
      """, .integer(Int64(AuditVerification.faultsMax))
    ).rows(as: Int64.self, String.self)
    for (id, approvedAt) in unsealed {
      result.found(
        "lethe.approval", "approval_id = \(id)", "no record of the chain is about the approval",
        writtenAt: approvedAt)
    }
  }
}

extension TrailQueries {
  func approvals() async throws -> [AuditTrail.Approval] {
    try await session.run(
      """
      SELECT a.chunk_id, a.stopped_reason, a.approved_by, a.note, \(utc("a.approved_at")),
             a.seal_number
      FROM lethe.approval AS a JOIN lethe.chunk AS c USING (chunk_id)
      WHERE c.first_id <= $1 AND c.last_id >= $1 AND \(ofType("c.type"))
      ORDER BY a.approved_at, a.approval_id
      """, parameters
    ).rows(as: Int64.self, String.self, String.self, String?.self, String.self, Int64?.self).map {
      AuditTrail.Approval(
        chunkID: $0.0, stoppedReason: $0.1, by: $0.2, note: $0.3, at: $0.4, sealNumber: $0.5)
    }
  }

  func refusals() async throws -> [AuditTrail.Refusal] {
    try await session.run(
      """
      SELECT f.chunk_id, c.type::text, f.reason::text,
             \(utc("(f.event ->> 'created_at')::timestamptz")),
             \(utc("(f.event ->> 'redacted_at')::timestamptz")), f.why, f.remedy,
             \(utc("f.refused_at")), nullif(f.event -> 'changed', 'null')::text,
             \(utc("f.resolved_at")), f.resolution, f.superseded_by, n.api_id
      FROM lethe.refusal AS f JOIN lethe.chunk AS c USING (chunk_id)
      LEFT JOIN lethe.job AS n ON n.job_id = f.superseded_by
      WHERE f.id = $1 AND \(ofType("c.type")) ORDER BY f.refused_at, f.chunk_id
      """, parameters
    ).rows(
      as: Int64.self, JobType.self, String.self, String?.self, String?.self, String.self,
      String.self, String.self, String?.self, String?.self, String?.self, Int64?.self,
      String?.self
    ).map { row in
      AuditTrail.Refusal(
        chunkID: row.0, type: row.1, reason: row.2, createdAt: row.3, redactedAt: row.4,
        why: row.5, remedy: row.6, at: row.7, changed: try Self.counts(row.8), resolvedAt: row.9,
        resolution: row.10, supersededBy: Self.job(row.11, row.12))
    }
  }
}
