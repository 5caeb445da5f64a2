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
  ) -> (sql: String, parameters: [Parameter])? {
    guard case .protect(let set, .former(let fallback, let ifWritten)) = kind, let key = holdKey
    else { return nil }
    let values = fallback.filter { value in set.contains { $0.column == value.column } }
    let ways = guards.filter { $0.resolvedTable == reach.table.resolvedName }
    guard !values.isEmpty, !ways.isEmpty else { return nil }
    var bound = BoundStatement()
    func object(_ text: (ColumnValue) -> String) -> String {
      let pairs = values.map { "\(SQLText.literal($0.column)), (\(text($0)))::text" }
      return "pg_catalog.jsonb_build_object(\(pairs.joined(separator: ", ")))"
    }
    let former = object { value($0, &bound) }
    let setTo = object { "t.\(Identifier($0.column).sql)" }
    let isAsSet = set.map { self.isAsSet($0, "IS NOT DISTINCT FROM", &bound) }
    let isHidden = ways.map { "NOT \($0.isFree("t", &bound))" }.joined(separator: " OR ")
    let conditions =
      reachedRows(range, context, &bound) + isAsSet + [isNotHeld(key, &bound), "(\(isHidden))"]
    let rowID = rowIDExpression.map { ", \($0) AS row_id" } ?? ""
    let (type, id) = rowSubject(context, &bound)
    let columns = bound.bind(.texts(values.map(\.column)))
    let sql = """
      WITH hidden AS MATERIALIZED (
        SELECT s.id AS event_id\(rowID), \(key.json(of: "t")) AS row_key,
               \(former) AS former, \(setTo) AS set_to
        FROM \(reach.join.from), \(reach.table.sql) AS t
        WHERE \(conditions.joined(separator: "\n  AND "))
      ), holds AS (
        INSERT INTO lethe.hold
          (table_name, row_key, former, set_to, ignores_writers, row_type, row_id, cluster)
        SELECT DISTINCT ON (row_key) \(bound.bind(.text(key.table)))::text, row_key, former, set_to,
               \(bound.bind(.bool(ifWritten == .ignore)))::boolean, \(type), \(id),
               \(bound.bind(Parameter(context.versions.cluster)))::bigint
        FROM hidden ORDER BY row_key, event_id
        RETURNING hold_id, row_key
      ), named AS (
        INSERT INTO lethe.held_key (table_name, key_columns)
        SELECT \(bound.bind(.text(key.table)))::text, \(bound.bind(.texts(key.names)))::text[]
        WHERE EXISTS (SELECT FROM hidden) ON CONFLICT DO NOTHING
      )
      INSERT INTO lethe.holder (hold_id, type, id, columns, pipeline, dataset, job_id, asked_at)
      SELECT DISTINCT h.hold_id, \(bound.bind(.text(context.type.rawValue)))::lethe.job_type, r.event_id,
             \(columns)::text[], \(bound.bind(.text(context.pipeline)))::text,
             \(bound.bind(.text(context.dataset)))::text, \(bound.bind(.integer(context.jobID)))::bigint,
             \(bound.bind(.text(context.askedAt)))::timestamptz
      FROM holds AS h JOIN hidden AS r USING (row_key)
      """
    return (sql, bound.parameters)
  }
}
