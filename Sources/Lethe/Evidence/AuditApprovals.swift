import Foundation
import PostgreSQL
import Vocabulary

/// Checks the records of approvals of chunks that a limit had stopped.
extension ChainVerifier {
  /// Checks that the approval, with the operator's name and reason, is unchanged since it was sealed.
  mutating func verifyApproval(_ record: Record) async throws {
    guard case .number(let number)? = Self.values(record.content)?["approval_id"] else {
      result.addFault(
        "lethe.seal", record.key, "its content is not the content of an approval",
        writtenAt: record.sealedAt)
      return
    }
    let id = NSDecimalNumber(decimal: number).int64Value
    let now = try await session.query("SELECT lethe.approval_content(\(id))")
      .onlyRow(as: String?.self)
    guard now != record.content else { return }
    result.addFault(
      "lethe.approval", "approval_id = \(id)",
      now == nil
        ? "the approval of record \(record.number) is missing"
        : "it differs from what record \(record.number) sealed",
      writtenAt: record.sealedAt)
  }

  mutating func requireSealOfEachApproval() async throws {
    let unsealed = try await session.query(
      """
      SELECT a.approval_id, \(SQL.utc("a.approved_at", .microseconds)) FROM lethe.approval AS a
      WHERE NOT EXISTS (SELECT FROM lethe.seal AS s
                        WHERE s.kind = 'approval' AND s.number = a.seal_number)
      ORDER BY a.approval_id LIMIT \(AuditVerification.faultsMax)
      """
    ).rows(as: Int64.self, String.self)
    for (id, approvedAt) in unsealed {
      result.addFault(
        "lethe.approval", "approval_id = \(id)", "the chain has no record of the approval",
        writtenAt: approvedAt)
    }
  }
}

extension TrailQueries {
  func approvals() async throws -> [AuditTrail.Approval] {
    try await session.run(
      """
      SELECT a.chunk_id, a.stopped_reason, a.approved_by, a.note, \(utc("a.approved_at")) AS at,
             a.seal_number
      FROM lethe.approval AS a JOIN lethe.chunk AS c USING (chunk_id)
      WHERE c.first_id <= \(id) AND c.last_id >= \(id) AND \(ofType("c.type"))
      ORDER BY a.approved_at, a.approval_id
      """
    ).rows.map { row in
      try AuditTrail.Approval(
        chunkID: row["chunk_id"], stoppedReason: row["stopped_reason"], by: row["approved_by"],
        note: row["note"], at: row["at"], sealNumber: row["seal_number"])
    }
  }

  func refusals() async throws -> [AuditTrail.Refusal] {
    try await session.run(
      """
      SELECT f.chunk_id, c.type::text, f.reason::text,
             \(utc("(f.event ->> 'created_at')::timestamptz")) AS created_at,
             \(utc("(f.event ->> 'redacted_at')::timestamptz")) AS redacted_at, f.why, f.remedy,
             \(utc("f.refused_at")) AS at, nullif(f.event -> 'changed', 'null')::text AS changed,
             \(utc("f.resolved_at")) AS resolved_at, f.resolution, f.superseded_by, n.api_id
      FROM lethe.refusal AS f JOIN lethe.chunk AS c USING (chunk_id)
      LEFT JOIN lethe.job AS n ON n.job_id = f.superseded_by
      WHERE f.id = \(id) AND \(ofType("c.type")) ORDER BY f.refused_at, f.chunk_id
      """
    ).rows.map { row in
      try AuditTrail.Refusal(
        chunkID: row["chunk_id"], type: row["type"], reason: row["reason"],
        createdAt: row["created_at"], redactedAt: row["redacted_at"],
        why: row["why"], remedy: row["remedy"], at: row["at"], changed: Self.counts(row["changed"]),
        resolvedAt: row["resolved_at"],
        resolution: row["resolution"], supersededBy: Self.job(row["superseded_by"], row["api_id"]))
    }
  }
}
