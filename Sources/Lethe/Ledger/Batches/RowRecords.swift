package import SQLText
package import Vocabulary

/// Writes the records of rows that are posts or users themselves and were changed because of another ID's event.
package struct RowRecords: Sendable {
  private let origin: BatchOrigin
  private let type: JobType
  private let action: String
  private let label: String

  /// - Parameters:
  ///   - type: the type of the rows' IDs.
  ///   - action: the label of `lethe.action`.
  ///   - label: the change's name in the record.
  package init(_ origin: BatchOrigin, of type: JobType, action: String, label: String) {
    self.origin = origin
    self.type = type
    self.action = action
    self.label = label
  }

  /// The common table expressions that write the records. They must follow `changed`, which returns event_id, reason
  /// and row_id.
  package func records(leavingTombstones: Bool) -> SQL {
    let rowType: SQL = "\(type.rawValue)::lethe.job_type"
    let job: SQL = "\(origin.jobID)"
    var sql: SQL = """
      , records AS (
      INSERT INTO lethe.event
        (id, type, reason, action, chunk_id, job_id, applied_at, changed, cause_id, batch)
      SELECT row_id, \(rowType), reason, \(action)::lethe.action,
             \(origin.chunkID), \(job)::bigint, now(),
             pg_catalog.jsonb_build_object(\(label)::text, 1), event_id,
             \(origin.number)::integer
      FROM changed WHERE row_id IS NOT NULL
      )
      """
    if leavingTombstones {
      sql += """
        , tombstones AS (
        INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
        SELECT DISTINCT ON (row_id) \(rowType), row_id, reason, \(job)::bigint, now()
        FROM changed WHERE row_id IS NOT NULL
        ON CONFLICT (type, id) DO NOTHING
        )
        """
    }
    return sql
  }
}
