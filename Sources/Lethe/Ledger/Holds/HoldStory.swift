import PostgreSQL
public import Vocabulary

/// What holds have to do with an ID: rows that its answers hold or held, and the row that it is.
public struct HoldStory: Sendable {
  /// ISO 8601 in UTC.
  public let at: String
  public let table: String
  /// As JSON.
  public let key: String
  public let what: What

  public enum What: Sendable {
    /// The row is hidden; by whom.
    case held(columns: [String], type: JobType, id: Int64, job: Int64)
    /// It is not held any more; how that came, and by whose answer.
    case closed(outcome: String, type: JobType?, id: Int64?, job: Int64?)
  }
}

/// An operator's word that ended holds.
public struct SealedReleaseRecord: Sendable {
  public let number: Int64
  public let at: String
  public let type: String
  public let by: String
  public let note: String
  public let keepsHidden: Bool
}

struct HoldStoryQueries {
  let session: Transaction
  /// The ID ($1) and the type or null ($2).
  let parameters: [Parameter]

  func stories() async throws -> [HoldStory] {
    let open = try await session.run(
      """
      SELECT \(AuditLedger.utc("h.held_at")), h.table_name, h.row_key::text,
             pg_catalog.array_to_string(r.columns, E'\\n'), r.type::text, r.id, r.job_id
      FROM lethe.hold AS h JOIN lethe.holder AS r USING (hold_id)
      WHERE (h.hold_id IN (SELECT hold_id FROM lethe.holder
                           WHERE id = $1 AND ($2::text IS NULL OR type = $2::lethe.job_type))
             OR h.row_id = $1 AND ($2::text IS NULL OR h.row_type = $2::lethe.job_type))
      ORDER BY h.hold_id, r.type, r.id LIMIT \(Self.rowsMax)
      """, parameters
    ).rows(
      as: String.self, String.self, String.self, String.self, JobType.self, Int64.self, Int64.self
    ).map {
      HoldStory(
        at: $0.0, table: $0.1, key: $0.2,
        what: .held(
          columns: $0.3.split(separator: "\n").map(String.init), type: $0.4, id: $0.5, job: $0.6))
    }
    let closed = try await session.run(
      """
      SELECT \(AuditLedger.utc("h.closed_at")), h.table_name, h.row_key::text, h.outcome,
             h.type::text, h.id, h.job_id
      FROM lethe.closed_hold AS h
      WHERE h.id = $1 AND ($2::text IS NULL OR h.type = $2::lethe.job_type)
         OR h.row_id = $1 AND ($2::text IS NULL OR h.row_type = $2::lethe.job_type)
      ORDER BY h.closed_at, h.hold_id LIMIT \(Self.rowsMax)
      """, parameters
    ).rows(
      as: String.self, String.self, String.self, String.self, JobType?.self, Int64?.self,
      Int64?.self
    ).map {
      HoldStory(
        at: $0.0, table: $0.1, key: $0.2,
        what: .closed(outcome: $0.3, type: $0.4, id: $0.5, job: $0.6))
    }
    return open + closed
  }

  /// A user may hold any number of posts.
  private static let rowsMax = 1000

  /// Only a record whose content is what was sealed counts.
  func releases() async throws -> [SealedReleaseRecord] {
    try await session.run(
      """
      SELECT number, \(AuditLedger.utc("sealed_at")), content ->> 'type', content ->> 'by',
             content ->> 'note', (content ->> 'keep_hidden')::boolean
      FROM (
        SELECT number, sealed_at,
               CASE WHEN sha256 = sha256(previous || convert_to(content, 'UTF8'))
                    THEN content::jsonb END AS content
        FROM lethe.seal WHERE kind = 'release'
      ) AS released
      WHERE content -> 'ids' @> pg_catalog.to_jsonb($1::bigint)
        AND ($2::text IS NULL OR content ->> 'type' = $2)
      ORDER BY number
      """, parameters
    ).rows(as: Int64.self, String.self, String.self, String.self, String.self, Bool.self).map {
      SealedReleaseRecord(
        number: $0.0, at: $0.1, type: $0.2, by: $0.3, note: $0.4, keepsHidden: $0.5)
    }
  }
}
