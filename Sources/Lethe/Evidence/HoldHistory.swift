import Ledger
import PostgreSQL
public import Vocabulary

/// An entry of the history of holds for an ID. It is about a row that the ID holds, a row whose hold ended because of
/// the ID, or the row that has the ID.
public struct HoldHistory: Sendable {
  /// The time as ISO 8601 in UTC.
  public let at: String
  public let table: String
  /// The row's key as JSON.
  public let key: String
  public let what: What

  public enum What: Sendable {
    /// The row is hidden, and an answer about `id` hides it.
    case held(columns: [String], type: JobType, id: Int64, job: Int64)
    /// The row is not held any more. `outcome` is the reason. An answer about `id` ended the hold, or an operator's
    /// release of `id`. `job` is nil for a release. `type`, `id` and `job` are nil if Lethe ended the hold without an
    /// answer, because the row or the columns no longer existed.
    case closed(outcome: String, type: JobType?, id: Int64?, job: Int64?)
  }
}

/// An operator's release of holds.
public struct SealedReleaseRecord: Sendable {
  public let number: Int64
  public let at: String
  public let type: String
  public let by: String
  public let note: String
  public let keepsHidden: Bool
}

struct HoldHistoryQueries {
  let session: Transaction
  let id: SQL
  /// The type's label, or NULL.
  let type: SQL

  func histories() async throws -> [HoldHistory] {
    let open = try await session.run(
      """
      SELECT \(AuditLedger.utc("h.held_at")) AS at, h.table_name, h.row_key::text,
             pg_catalog.array_to_string(r.columns, E'\\n') AS columns, r.type::text, r.id, r.job_id
      FROM lethe.hold AS h JOIN lethe.holder AS r USING (hold_id)
      WHERE (h.hold_id IN (SELECT hold_id FROM lethe.holder
                           WHERE id = \(id) AND (\(type)::text IS NULL OR type = \(type)::lethe.job_type))
             OR h.row_id = \(id) AND (\(type)::text IS NULL OR h.row_type = \(type)::lethe.job_type))
      ORDER BY h.hold_id, r.type, r.id LIMIT \(Self.rowsMax)
      """
    ).rows.map { row in
      try HoldHistory(
        at: row["at"], table: row["table_name"], key: row["row_key"],
        what: .held(
          columns: row.decode(String.self, "columns").split(separator: "\n").map(String.init),
          type: row["type"], id: row["id"], job: row["job_id"]))
    }
    let closed = try await session.run(
      """
      SELECT \(AuditLedger.utc("h.closed_at")) AS at, h.table_name, h.row_key::text, h.outcome,
             h.type::text, h.id, h.job_id
      FROM lethe.closed_hold AS h
      WHERE h.id = \(id) AND (\(type)::text IS NULL OR h.type = \(type)::lethe.job_type)
         OR h.row_id = \(id) AND (\(type)::text IS NULL OR h.row_type = \(type)::lethe.job_type)
      ORDER BY h.closed_at DESC, h.hold_id DESC LIMIT \(Self.rowsMax)
      """
    ).rows.map { row in
      try HoldHistory(
        at: row["at"], table: row["table_name"], key: row["row_key"],
        what: .closed(outcome: row["outcome"], type: row["type"], id: row["id"], job: row["job_id"])
      )
    }
    return open + closed.reversed()
  }

  /// The largest number of entries for open holds, and of entries for ended holds. If there are more ended holds, the
  /// newest are returned. The number is limited, because a user can hold any number of posts.
  private static let rowsMax = 1000

  /// The operators' releases of the ID. Records whose hash does not match their content are left out.
  func releases() async throws -> [SealedReleaseRecord] {
    try await session.run(
      """
      SELECT number, \(AuditLedger.utc("sealed_at")) AS at, content ->> 'type' AS type,
        content ->> 'by' AS by,
             content ->> 'note' AS note, (content ->> 'keep_hidden')::boolean AS keeps_hidden
      FROM (
        SELECT number, sealed_at,
               CASE WHEN sha256 = sha256(previous || convert_to(content, 'UTF8'))
                    THEN content::jsonb END AS content
        FROM lethe.seal WHERE kind = 'release'
      ) AS released
      WHERE content -> 'ids' @> pg_catalog.to_jsonb(\(id)::bigint)
        AND (\(type)::text IS NULL OR content ->> 'type' = \(type)::text)
      ORDER BY number
      """
    ).rows.map { row in
      try SealedReleaseRecord(
        number: row["number"], at: row["at"], type: row["type"], by: row["by"], note: row["note"],
        keepsHidden: row["keeps_hidden"])
    }
  }
}
