import Definitions
import PostgreSQL
import Vocabulary
import Warehouse

/// What the statements of one transaction have in common.
struct BatchContext {
  let pipeline: String
  let dataset: String
  let chunkID: Int64
  let jobID: Int64
  /// The batch's number in `lethe.batch`.
  var number: Int
  /// Whether rows that are taken away leave a tombstone.
  let tombstones: Bool
  /// What the export of the chunk could see; nil if that was not recorded.
  let exportedSnapshot: String?
  /// Whether the rows are looked at before the transaction that ends protections has begun.
  var isAhead = false
}

/// The SQL of a change. Rows that are already as they should be are not touched, so an event that
/// was applied before changes nothing.
extension Change {
  /// Changes the rows that the events of `range` reach, counts them by event in `lethe_touched`, and
  /// leaves a record, and where nothing is left a tombstone, for each row that has an ID of its own.
  ///
  /// - Parameters:
  ///   - number: what `lethe_touched` calls this change.
  ///   - rowsMax: stops after so many rows; another call goes on.
  func statement(
    for range: EventRange, number: Int, in context: BatchContext, rowsMax: Int? = nil
  ) -> (sql: String, parameters: [Parameter]) {
    var bound = BoundStatement()
    let changed = changedCTE(range, context, rowsMax: rowsMax, &bound)
    let records = recordCTEs(context, &bound)
    let count = bound.bind(.integer(Int64(number)))
    let sql = """
      WITH \(changed)\(records)
      INSERT INTO lethe_touched (change, id, reason, rows)
      SELECT \(count)::integer, event_id, reason, count(*) FROM changed GROUP BY event_id, reason
      """
    return (sql, bound.parameters)
  }

  /// `changed`, which changes the rows: (event_id, reason), and row_id where they have IDs of their own.
  /// - Parameter returning: further columns of the events.
  func changedCTE(
    _ range: EventRange, _ context: BatchContext, rowsMax: Int? = nil,
    returning columns: [String] = [], _ bound: inout BoundStatement
  ) -> String {
    let rowID = rowIDExpression.map { ", \($0) AS row_id" } ?? ""
    let further = columns.map { ", s.\($0)" }.joined()
    let body =
      rowsMax.map { limitedBody(range, context, rowsMax: $0, &bound) }
      ?? wholeBody(range, context, &bound)
    return """
      \(body)
      RETURNING s.id AS event_id, s.reason\(rowID)\(further)
      )
      """
  }

  /// The rows that the change would touch at most, as a sub-select of (id, reason); asked before the
  /// transaction.
  func hits(
    of range: EventRange, in context: BatchContext, _ bound: inout BoundStatement,
    andAlso condition: String = "true"
  ) -> String {
    let (from, _) = reach.join
    var context = context
    context.isAhead = true
    return """
      SELECT s.id, s.reason FROM \(from), \(reach.table.sql) AS t
      WHERE \(filter(range, context, &bound)) AND \(condition)
      """
  }

  /// Where the rows are that the change would touch, as a select of (id, part, place); asked before the
  /// transaction.
  func places(
    of range: EventRange, in context: BatchContext, _ bound: inout BoundStatement
  ) -> String {
    var context = context
    context.isAhead = true
    return """
      SELECT s.id, t.tableoid AS part, t.ctid AS place
      FROM \(reach.join.from), \(reach.table.sql) AS t WHERE \(filter(range, context, &bound))
      """
  }

  /// The rows that the change should have touched and that are as they were, a few of them, named.
  func remains(
    of range: EventRange, in context: BatchContext, rowsMax: Int
  ) -> (sql: String, parameters: [Parameter]) {
    var bound = BoundStatement()
    let (from, _) = reach.join
    let key = reach.table.primaryKey.isEmpty ? [reach.match.name] : reach.table.primaryKey
    let names = key.map { "'\(Self.literal($0)) ' || t.\(Identifier($0).sql)::text" }
      .joined(separator: ", ")
    let sql = """
      SELECT concat_ws(', ', \(names)) FROM \(from), \(reach.table.sql) AS t
      WHERE \(filter(range, context, &bound))
      LIMIT \(rowsMax)
      """
    return (sql, bound.parameters)
  }

  /// The IDs whose rows a restore had to leave as they are because they are newer than the export.
  func postponed(
    _ range: EventRange, in context: BatchContext, _ bound: inout BoundStatement
  ) -> String? {
    guard isRestore, let isOld = isOlderThanExport(context, &bound) else { return nil }
    let (from, conditions) = reach.join
    let all =
      [bound.standing(in: range), "s.id IN (SELECT id FROM lethe_restored)"] + conditions
      + [pending(&bound)] + ["NOT \(isOld)"]
    return """
      SELECT s.id FROM \(from), \(reach.table.sql) AS t WHERE \(all.joined(separator: " AND "))
      """
  }

  // MARK: The rows

  private func wholeBody(
    _ range: EventRange, _ context: BatchContext, _ bound: inout BoundStatement
  ) -> String {
    let (from, _) = reach.join
    if isDelete {
      return """
        changed AS (
        DELETE FROM \(reach.table.sql) AS t USING \(from)
        WHERE \(filter(range, context, &bound))
        """
    }
    return """
      changed AS (
      UPDATE \(reach.table.sql) AS t SET \(assignments(&bound)) FROM \(from)
      WHERE \(filter(range, context, &bound))
      """
  }

  /// The same for some of the rows. A row that somebody else changes meanwhile moves, and is left for
  /// the next call; so is one that others still hang on, which nobody would find without it.
  private func limitedBody(
    _ range: EventRange, _ context: BatchContext, rowsMax: Int, _ bound: inout BoundStatement
  ) -> String {
    let (from, _) = reach.join
    let hit = """
      s AS MATERIALIZED (
      SELECT t.ctid AS row_place, t.tableoid AS row_table, s.id, s.reason
      FROM \(from), \(reach.table.sql) AS t
      WHERE \(([filter(range, context, &bound)] + freedom).joined(separator: " AND "))
      LIMIT \(rowsMax)
      )
      """
    let place = "t.ctid = s.row_place AND t.tableoid = s.row_table"
    if isDelete {
      return """
        \(hit), changed AS (
        DELETE FROM \(reach.table.sql) AS t USING s WHERE \(place)
        """
    }
    return """
      \(hit), changed AS (
      UPDATE \(reach.table.sql) AS t SET \(assignments(&bound)) FROM s WHERE \(place)
      """
  }

  /// For a row that is to be deleted: that no row hangs on it which goes with it, be it by a further
  /// target or by a foreign key of the table on itself.
  private var freedom: [String] {
    guard isDelete else { return [] }
    let own = reach.table.references.filter {
      $0.isRestricting && $0.refers(from: reach.table.name)
    }
    return dependents.map { dependent in
      let kind = dependent.match.idKind ?? .integer
      let id = kind.cast("t.\(dependent.id.sql)", from: dependent.id.idKind ?? .integer)
      return
        "NOT EXISTS (SELECT FROM \(dependent.table.sql) AS d WHERE d.\(dependent.match.sql) = \(id))"
    }
      + own.map {
        """
        NOT EXISTS (SELECT FROM \($0.table.sql) AS r WHERE \($0.equality)
                      AND NOT (r.ctid = t.ctid AND r.tableoid = t.tableoid))
        """
      }
  }

  private func filter(
    _ range: EventRange, _ context: BatchContext, _ bound: inout BoundStatement
  ) -> String {
    var all = [bound.standing(in: range)]
    if isRestore {
      all.append(context.isAhead ? "s.restores" : "s.id IN (SELECT id FROM lethe_restored)")
    } else {
      all.append("s.reason = ANY (\(bound.bind(.texts(reasons)))::lethe.reason[])")
    }
    all += reach.join.conditions
    if let column = reach.idTime { all.append(IDTime.condition(column, range, &bound)) }
    switch kind {
    case .delete: break
    case .protect, .scrubGeo, .redact: all.append(pending(&bound))
    case .rehydrate: all += [pending(&bound), Self.isNews(context, label: label, &bound)]
    case .restore:
      all.append(pending(&bound))
      if let isOld = isOlderThanExport(context, &bound) { all.append(isOld) }
    }
    if !context.isAhead { all += guards.map { stillProtected($0, &bound) } }
    return all.joined(separator: "\n  AND ")
  }

  private func assignments(_ bound: inout BoundStatement) -> String {
    let (values, cuts) = effect
    let sets = values.map { "\(Identifier($0.column).sql) = \(value($0, &bound))" }
    return (sets + cuts.map { "\(Identifier($0.column).sql) = \(cutValue($0, &bound))" })
      .joined(separator: ", ")
  }

  private var effect: (values: [ColumnValue], cuts: [JSONCut]) {
    switch kind {
    case .delete: ([], [])
    case .protect(let set): (set, [])
    case .scrubGeo(let erasure), .redact(let erasure): (erasure.set, erasure.cut)
    case .rehydrate(let mark): (mark, [])
    case .restore(_, let to): (to, [])
    }
  }

  /// The condition that a row still has something to change.
  private func pending(_ bound: inout BoundStatement) -> String {
    if case .restore(let from, _) = kind {
      // What is not as Lethe left it was changed by somebody else, and is theirs.
      return from.map { isAsSet($0, "IS NOT DISTINCT FROM", &bound) }.joined(separator: " AND ")
    }
    let (values, cuts) = effect
    var parts = values.map { isAsSet($0, "IS DISTINCT FROM", &bound) }
    for cut in cuts {
      let column = "t.\(Identifier(cut.column).sql)::jsonb"
      parts += cut.paths.map { "\(column) #> \(bound.bind(.texts($0)))::text[] IS NOT NULL" }
    }
    return "(\(parts.joined(separator: " OR ")))"
  }

  /// A column compared with the value that it is set to.
  private func isAsSet(
    _ value: ColumnValue, _ comparison: String, _ bound: inout BoundStatement
  ) -> String {
    let column = reach.table.columns[value.column]
    let text = column?.hasEquality == false ? "::text" : ""
    return
      "t.\(Identifier(value.column).sql)\(text) \(comparison) \(self.value(value, &bound))\(text)"
  }

  /// The cast settles the placeholder's type, which the two sides could otherwise infer differently.
  private func value(_ value: ColumnValue, _ bound: inout BoundStatement) -> String {
    "\(bound.bind(Parameter(value.value)))::\(reach.table.columns[value.column]?.type ?? "text")"
  }

  /// Cuts the paths that the value has: looking for one in a scalar, or for a key in an array, would be
  /// an error. The empty path cuts nothing.
  private func cutValue(_ cut: JSONCut, _ bound: inout BoundStatement) -> String {
    let column = "t.\(Identifier(cut.column).sql)"
    let type = reach.table.columns[cut.column]?.type ?? "jsonb"
    let paths = cut.paths.map { path in
      let path = "\(bound.bind(.texts(path)))::text[]"
      return " #- CASE WHEN \(column)::jsonb #> \(path) IS NOT NULL THEN \(path) ELSE '{}' END"
    }
    return """
      CASE WHEN jsonb_typeof(\(column)::jsonb) IN ('object', 'array') \
      THEN (\(column)::jsonb\(paths.joined()))::\(type) ELSE \(column) END
      """
  }

  // MARK: What a change must not undo

  /// The same event, by the time that the platform gives it, is not acted on twice by a dataset: the ID
  /// may have been fetched again meanwhile. What this batch itself has recorded does not count.
  ///
  /// - Parameter label: of the change that was made for it; nil if the ID was queued.
  static func isNews(
    _ context: BatchContext, label: String?, _ bound: inout BoundStatement
  ) -> String {
    let wasMade = label.map { " OR e.changed ? \(bound.bind(.text($0)))" } ?? ""
    return """
      NOT EXISTS (
        SELECT FROM lethe.event AS e
        JOIN lethe.chunk AS ec ON ec.chunk_id = e.chunk_id
        JOIN lethe.run AS er ON er.run_id = ec.run_id
        WHERE e.id = s.id AND e.reason = s.reason AND e.redacted_at = s.redacted_at
          AND e.cause_id IS NULL AND e.superseded_by IS NULL
          AND (e.action = 'rehydrate'\(wasMade))
          AND ec.dataset = \(bound.bind(.text(context.dataset)))
          AND er.pipeline = \(bound.bind(.text(context.pipeline)))
          AND NOT (e.chunk_id = \(bound.bind(.integer(context.chunkID)))
                   AND e.batch = \(bound.bind(.integer(Int64(context.number))))::integer))
      """
  }

  /// Rows that came, or that somebody else has changed, after the export are not judged by the chunk's
  /// answers; those that Lethe itself has written are. Everything below the snapshot's xmin had ended by
  /// then; of what is above, a subtransaction's number does not tell whether it had.
  private func isOlderThanExport(
    _ context: BatchContext, _ bound: inout BoundStatement
  ) -> String? {
    guard let snapshot = context.exportedSnapshot else { return nil }
    return """
      (lethe.full_xid(t.xmin) < pg_snapshot_xmin(\(bound.bind(.text(snapshot)))::pg_snapshot)
       OR lethe.full_xid(t.xmin) = pg_current_xact_id()
       OR EXISTS (SELECT FROM lethe.batch AS b WHERE b.xid = lethe.full_xid(t.xmin)))
      """
  }

  /// The protections that this batch ends are forgotten by now, so what is found is another's. From the
  /// row back to the ID that protects it.
  private func stillProtected(_ guarded: ProtectionGuard, _ bound: inout BoundStatement) -> String {
    var from = "lethe.protection AS q"
    var conditions: [String] = []
    var current = (expression: "t.\(guarded.match.sql)", kind: guarded.match.idKind ?? .integer)
    for (index, step) in guarded.steps.reversed().enumerated() {
      let alias = "g\(index + 1)"
      from += ", \(step.table.sql) AS \(alias)"
      let kind = step.id.idKind ?? .integer
      conditions.append(
        "\(alias).\(step.id.sql) = \(kind.cast(current.expression, from: current.kind))")
      current = ("\(alias).\(step.match.sql)", step.match.idKind ?? .integer)
    }
    conditions += [
      "q.pipeline = \(bound.bind(.text(guarded.pipeline)))",
      "q.dataset = \(bound.bind(.text(guarded.dataset)))",
      "q.id = \(IDKind.integer.cast(current.expression, from: current.kind))",
    ]
    return "NOT EXISTS (SELECT FROM \(from) WHERE \(conditions.joined(separator: " AND ")))"
  }

  // MARK: What remains of a row

  /// Whether each changed row leaves an event record of its own.
  var recordsRows: Bool { rowIDExpression != nil }

  private var rowIDExpression: String? {
    guard let id = reach.rowID?.column, let kind = id.idKind else { return nil }
    return IDKind.integer.cast("t.\(id.sql)", from: kind)
  }

  private func recordCTEs(_ context: BatchContext, _ bound: inout BoundStatement) -> String {
    guard rowIDExpression != nil, let rowID = reach.rowID else { return "" }
    let type = "\(bound.bind(.text(rowID.type.rawValue)))::lethe.job_type"
    let job = bound.bind(.integer(context.jobID))
    var sql = """
      , records AS (
      INSERT INTO lethe.event
        (id, type, reason, action, chunk_id, job_id, applied_at, changed, cause_id, batch)
      SELECT row_id, \(type), reason, \(bound.bind(.text(action)))::lethe.action,
             \(bound.bind(.integer(context.chunkID))), \(job)::bigint, now(),
             jsonb_build_object(\(bound.bind(.text(label)))::text, 1), event_id,
             \(bound.bind(.integer(Int64(context.number))))::integer
      FROM changed WHERE row_id IS NOT NULL
      )
      """
    if isRemoving, context.tombstones {
      sql += """
        , tombstones AS (
        INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
        SELECT DISTINCT ON (row_id) \(type), row_id, reason, \(job)::bigint, now()
        FROM changed WHERE row_id IS NOT NULL
        ON CONFLICT (type, id) DO NOTHING
        )
        """
    }
    return sql
  }

  private static func literal(_ text: String) -> String { text.replacing("'", with: "''") }
}
