import Definitions
import PostgreSQL
import Vocabulary
import Warehouse

/// The SQL of a change. Rows that are already as they should be are not touched, so an event that
/// was applied before changes nothing.
extension Change {
  /// Changes the rows that the events of `range` reach, and counts them by event in `lethe_touched`.
  ///
  /// - Parameter number: what `lethe_touched` calls this change.
  func statement(
    for range: EventRange, number: Int, jobID: Int64
  ) -> (sql: String, parameters: [Parameter]) {
    var bound = BoundStatement()
    let (from, conditions) = reach.join
    let body: String
    switch kind {
    case .delete:
      body = """
        DELETE FROM \(reach.table.sql) AS t USING \(from)
        WHERE \(filter(conditions, range, &bound))
        """
    case .protect, .scrubGeo, .restore:
      body = """
        UPDATE \(reach.table.sql) AS t SET \(assignments(&bound)) FROM \(from)
        WHERE \(filter(conditions, range, &bound))
        """
    }
    let rowID = tombstoneExpression.map { ", \($0) AS row_id" } ?? ""
    let count = bound.bind(.integer(Int64(number)))
    let sql = """
      WITH changed AS (
      \(body)
      RETURNING s.id AS event_id, s.reason\(rowID)
      )\(tombstones(jobID: jobID, &bound))
      INSERT INTO lethe_touched (change, id, reason, rows)
      SELECT \(count)::integer, event_id, reason, count(*) FROM changed GROUP BY event_id, reason
      """
    return (sql, bound.parameters)
  }

  /// Counts the rows that the change would touch, and touches none.
  func count(for range: EventRange) -> (sql: String, parameters: [Parameter]) {
    var bound = BoundStatement()
    let (from, conditions) = reach.join
    let sql = """
      SELECT count(*) FROM \(from), \(reach.table.sql) AS t
      WHERE \(filter(conditions, range, &bound))
      """
    return (sql, bound.parameters)
  }

  private func filter(
    _ conditions: [String], _ range: EventRange, _ bound: inout BoundStatement
  ) -> String {
    let isMeant: String
    switch kind {
    case .delete, .protect, .scrubGeo:
      isMeant = "s.reason = ANY (\(bound.bind(.texts(reasons)))::lethe.reason[])"
    case .restore: isMeant = "s.id IN (SELECT id FROM lethe_restored)"
    }
    let all =
      [bound.range(range), isMeant] + conditions + (differs(&bound).map { [$0] } ?? [])
      + guards.map { stillProtected($0, &bound) }
    return all.joined(separator: "\n  AND ")
  }

  private func assignments(_ bound: inout BoundStatement) -> String {
    let values: [ColumnValue]
    switch kind {
    case .delete: return ""
    case .protect(let set): values = set
    case .scrubGeo(let columns): values = columns.map { ColumnValue(column: $0, value: nil) }
    case .restore(_, let to): values = to
    }
    return values.map { "\(Identifier($0.column).sql) = \(value($0, &bound))" }
      .joined(separator: ", ")
  }

  /// The condition that a row still has something to change.
  private func differs(_ bound: inout BoundStatement) -> String? {
    switch kind {
    case .delete: return nil
    case .protect(let set):
      let parts = set.map { "t.\(Identifier($0.column).sql) IS DISTINCT FROM \(value($0, &bound))" }
      return "(\(parts.joined(separator: " OR ")))"
    case .scrubGeo(let columns):
      let parts = columns.map { "t.\(Identifier($0).sql) IS NOT NULL" }
      return "(\(parts.joined(separator: " OR ")))"
    case .restore(let from, _):
      // What is not as Lethe left it was changed by somebody else, and is theirs.
      return from.map {
        "t.\(Identifier($0.column).sql) IS NOT DISTINCT FROM \(value($0, &bound))"
      }.joined(separator: " AND ")
    }
  }

  /// The protections that this batch ends are forgotten by now, so what is found is another's.
  private func stillProtected(_ guarded: ProtectionGuard, _ bound: inout BoundStatement) -> String {
    let id = IDKind.integer.cast(
      "t.\(guarded.match.sql)", from: guarded.match.idKind ?? .integer)
    return """
      NOT EXISTS (SELECT FROM lethe.protection AS q
                  WHERE q.pipeline = \(bound.bind(.text(guarded.pipeline))) \
      AND q.dataset = \(bound.bind(.text(guarded.dataset))) AND q.id = \(id))
      """
  }

  /// The cast settles the placeholder's type, which the two sides could otherwise infer differently.
  private func value(_ value: ColumnValue, _ bound: inout BoundStatement) -> String {
    let type = reach.table.columns[value.column]?.type ?? "text"
    return "\(bound.bind(Parameter(value.value)))::\(type)"
  }

  private var tombstoneExpression: String? {
    guard case .delete = kind, let id = reach.tombstoneID, let kind = id.idKind else { return nil }
    return IDKind.integer.cast("t.\(id.sql)", from: kind)
  }

  /// The rows of further tables that have IDs of their own are posts.
  private func tombstones(jobID: Int64, _ bound: inout BoundStatement) -> String {
    guard tombstoneExpression != nil else { return "" }
    return """
      , tombstones AS (
      INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
      SELECT 'tweets', row_id, reason, \(bound.bind(.integer(jobID))), now() FROM changed
      WHERE row_id IS NOT NULL
      ON CONFLICT (type, id) DO NOTHING
      )
      """
  }
}
