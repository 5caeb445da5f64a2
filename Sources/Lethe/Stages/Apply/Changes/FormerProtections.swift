import Definitions
import PostgreSQL
import Vocabulary
import Warehouse

/// Rows that IDs of a version without holds hide, and that another ID hides now: from here on they have a
/// hold, and go back to the values of `restore`, as nobody knows others.
extension Change {
  /// - Parameter guards: the ways on which IDs without holds may hide rows.
  /// - Returns: nil for other changes, and where the definition has no values to go back to.
  func formerHolds(
    of range: EventRange, in context: BatchContext, guards: [ProtectionGuard]
  ) -> SQL? {
    guard case .protect(let set, .former(let fallback, let ifWritten)) = kind, let key = holdKey
    else { return nil }
    let values = fallback.filter { value in set.contains { $0.column == value.column } }
    let ways = guards.filter { $0.resolvedTable == reach.table.resolvedName }
    guard !values.isEmpty, !ways.isEmpty else { return nil }
    func object(_ text: (ColumnValue) -> SQL) -> SQL {
      let pairs = values.map { "\(literal: $0.column), (\(text($0)))::text" as SQL }
      return "pg_catalog.jsonb_build_object(\(pairs.joined(separator: ", ")))"
    }
    let former = object { value($0) }
    let setTo = object { "t.\(identifier: $0.column)" }
    let isAsSet = set.map { self.isAsSet($0) }
    let isHidden = ways.map { "NOT \($0.isFree("t"))" as SQL }.joined(separator: " OR ")
    let conditions =
      reachedRows(range, context) + isAsSet + [isNotHeld(key), "(\(isHidden))"]
    let rowID = rowIDExpression.map { ", \($0) AS row_id" as SQL } ?? ""
    let (type, id) = rowSubject(context)
    let columns: SQL = "\(values.map(\.column))"
    let sql: SQL = """
      WITH hidden AS MATERIALIZED (
        SELECT s.id AS event_id\(rowID), \(key.json(of: "t")) AS row_key,
               \(former) AS former, \(setTo) AS set_to
        FROM \(reach.join.from), \(reach.table.sql) AS t
        WHERE \(conditions.joined(separator: "\n  AND "))
      ), holds AS (
        INSERT INTO lethe.hold
          (table_name, row_key, former, set_to, ignores_writers, row_type, row_id, cluster)
        SELECT DISTINCT ON (row_key) \(key.table)::text, row_key, former, set_to,
               \(ifWritten == .ignore)::boolean, \(type), \(id),
               \(context.versions.cluster)::bigint
        FROM hidden ORDER BY row_key, event_id
        RETURNING hold_id, row_key
      ), named AS (
        INSERT INTO lethe.held_key (table_name, key_columns)
        SELECT \(key.table)::text, \(key.names)::text[]
        WHERE EXISTS (SELECT FROM hidden) ON CONFLICT DO NOTHING
      )
      INSERT INTO lethe.holder (hold_id, type, id, columns, pipeline, dataset, job_id, asked_at)
      SELECT DISTINCT h.hold_id, \(context.type.rawValue)::lethe.job_type, r.event_id,
             \(columns)::text[], \(context.pipeline)::text,
             \(context.dataset)::text, \(context.jobID)::bigint,
             \(context.askedAt)::timestamptz
      FROM holds AS h JOIN hidden AS r USING (row_key)
      """
    return sql
  }
}
