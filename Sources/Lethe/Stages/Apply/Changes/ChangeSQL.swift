import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// What the statements of one transaction have in common.
struct BatchContext {
  let pipeline: String
  let dataset: String
  /// Of the dataset's IDs.
  let type: JobType
  let chunkID: Int64
  let jobID: Int64
  /// When the API made the job, as PostgreSQL writes it.
  let askedAt: String
  /// The batch's number in `lethe.batch`.
  var number: Int
  /// Whether rows that are taken away leave a tombstone.
  let tombstones: Bool
  let versions: RowVersions
  /// The reasons for which the dataset protects rows: an answer that hides them releases nothing.
  let protecting: [String]
  /// Whether event records were ever pruned: then an edit may be known by a trace alone.
  let hasPrunedRecords: Bool
  /// Whether the rows are looked at before the transaction that ends protections has begun.
  var isAhead = false
  /// The tables, by their names in `lethe.hold`, that have rows with a hold; nil where nobody has looked.
  var heldTables: Set<String>?

  func mayBeHeld(_ key: HoldKey) -> Bool { heldTables?.contains(key.table) ?? true }
}

/// The SQL of a change. Rows that are already as they should be are not touched, so an event that
/// was applied before changes nothing.
extension Change {
  /// Changes the rows that the events of `range` reach, counts them by event in `lethe_touched`, and
  /// leaves a record, and where nothing is left a tombstone, for each row that has an ID of its own.
  ///
  /// - Parameter rowsMax: stops after so many rows; another call goes on.
  func statement(
    for range: EventRange, in context: BatchContext, rowsMax: Int? = nil
  ) -> SQL {
    let changed = changedCTEs(range, context, rowsMax: rowsMax)
    let records = recordCTEs(context)
    let sql: SQL = """
      WITH \(changed)\(records)
      INSERT INTO lethe_touched (action, table_name, id, reason, rows)
      SELECT \(action)::lethe.action, \("\(reach.table.name)"),
             event_id, reason, count(*)
      FROM changed GROUP BY event_id, reason
      """
    return sql
  }

  /// `changed`, which changes the rows: (event_id, reason), and row_id where they have IDs of their own;
  /// and what has to happen to their holds.
  /// - Parameter returning: further columns of the events.
  func changedCTEs(
    _ range: EventRange, _ context: BatchContext, rowsMax: Int? = nil,
    returning columns: [SQL] = []
  ) -> SQL {
    if let protection = protection(in: context) {
      return protectCTEs(protection, range, context, rowsMax: rowsMax, returning: columns)
    }
    let rowID = rowIDExpression.map { ", \($0) AS row_id" as SQL } ?? ""
    let further = columns.map { ", s.\($0)" as SQL }.joined()
    let endsHolds = isDelete ? holdKey.flatMap { context.mayBeHeld($0) ? $0 : nil } : nil
    let rowKey = endsHolds.map { ", \($0.json(of: "t")) AS row_key" as SQL } ?? ""
    let body =
      rowsMax.map { limitedBody(range, context, rowsMax: $0) }
      ?? wholeBody(range, context)
    return """
      \(body)
      RETURNING s.id AS event_id, s.reason\(rowID)\(further)\(rowKey)
      )\(endsHolds.map { deletedHoldCTEs($0, context) } ?? "")
      """
  }

  /// The rows that the change would touch at most, as a sub-select of (id, reason); asked before the
  /// transaction.
  func hits(
    of range: EventRange, in context: BatchContext,
    andAlso condition: SQL = "true"
  ) -> SQL {
    var context = context
    context.isAhead = true
    return """
      SELECT s.id, s.reason FROM \(rows(context))
      WHERE \(filter(range, context)) AND \(condition)
      """
  }

  /// Where the rows are that the change would touch, as a select of (id, part, place); asked before the
  /// transaction.
  func places(
    of range: EventRange, in context: BatchContext
  ) -> SQL {
    var context = context
    context.isAhead = true
    return """
      SELECT s.id, t.tableoid AS part, t.ctid AS place
      FROM \(rows(context)) WHERE \(filter(range, context))
      """
  }

  /// The rows that the change should have touched and that are as they were, a few of them, named.
  func remains(
    of range: EventRange, in context: BatchContext, rowsMax: Int
  ) -> SQL {
    var context = context
    // Somebody may have made holds since they were looked for.
    context.heldTables = nil
    let key = reach.table.primaryKey.isEmpty ? [reach.match.name] : reach.table.primaryKey
    let names = key.map { "\(literal: $0 + " ") || t.\(identifier: $0)::text" as SQL }
      .joined(separator: ", ")
    let condition =
      protection(in: context).map { unsettled($0, range, context) }
      ?? filter(range, context)
    let sql: SQL = """
      SELECT pg_catalog.concat_ws(', ', \(names)) FROM \(rows(context))
      WHERE \(condition)
      LIMIT \(literal: rowsMax)
      """
    return sql
  }

  /// The IDs whose rows a restore had to leave as they are because they are newer than the export.
  func postponed(
    _ range: EventRange, in context: BatchContext
  ) -> SQL? {
    guard isRestore else { return nil }
    let (from, conditions) = reach.join
    let isOld = context.versions.isOlderThanExport("t", of: reach.table)
    let all =
      [range.standing, "s.id IN (SELECT id FROM lethe_restored)"] + conditions
      + [pending(context)] + ["NOT \(isOld)"]
    return """
      SELECT s.id FROM \(from), \(reach.table.sql) AS t WHERE \(all.joined(separator: " AND "))
      """
  }

  // MARK: The rows

  /// The events `s` and the rows `t`, and for a protection their holds `h`.
  private func rows(_ context: BatchContext) -> SQL {
    let holds = protection(in: context).map { holdJoin($0, context) } ?? ""
    return "\(reach.join.from), \(reach.table.sql) AS t\(holds)"
  }

  private func wholeBody(
    _ range: EventRange, _ context: BatchContext
  ) -> SQL {
    let (from, _) = reach.join
    if isDelete {
      return """
        changed AS (
        DELETE FROM \(reach.table.sql) AS t USING \(from)
        WHERE \(filter(range, context))
        """
    }
    return """
      changed AS (
      UPDATE \(reach.table.sql) AS t SET \(assignments()) FROM \(from)
      WHERE \(filter(range, context))
      """
  }

  /// The same for some of the rows. A row that somebody else changes meanwhile moves, and is left for
  /// the next call; so is one that others still hang on, which nobody would find without it.
  private func limitedBody(
    _ range: EventRange, _ context: BatchContext, rowsMax: Int
  ) -> SQL {
    let (from, _) = reach.join
    let hit: SQL = """
      s AS MATERIALIZED (
      SELECT t.ctid AS row_place, t.tableoid AS row_table, s.id, s.reason
      FROM \(from), \(reach.table.sql) AS t
      WHERE \(([filter(range, context)] + freedom).joined(separator: " AND "))
      LIMIT \(literal: rowsMax)
      )
      """
    let place: SQL = "t.ctid = s.row_place AND t.tableoid = s.row_table"
    if isDelete {
      return """
        \(hit), changed AS (
        DELETE FROM \(reach.table.sql) AS t USING s WHERE \(place)
        """
    }
    return """
      \(hit), changed AS (
      UPDATE \(reach.table.sql) AS t SET \(assignments()) FROM s WHERE \(place)
      """
  }

  /// For a row that is to be deleted: that no row hangs on it which goes with it, be it by a further
  /// target or by a foreign key of the table on itself.
  private var freedom: [SQL] {
    guard isDelete else { return [] }
    let own = reach.table.references.filter {
      $0.isRestricting && $0.refers(from: reach.table.name)
    }
    return dependents.map { dependent in
      let hangs = dependent.match.equals(
        dependent.id.sql(of: "t"), of: dependent.id.kind, alias: "d")
      return "NOT EXISTS (SELECT FROM \(dependent.table.sql) AS d WHERE \(hangs))"
    }
      + own.map {
        """
        NOT EXISTS (SELECT FROM \($0.table.sql) AS r WHERE \($0.equality)
                      AND NOT (r.ctid = t.ctid AND r.tableoid = t.tableoid))
        """ as SQL
      }
  }

  private func filter(
    _ range: EventRange, _ context: BatchContext
  ) -> SQL {
    var all = reachedRows(range, context)
    switch kind {
    case .delete: break
    case .protect, .scrubGeo, .redact: all.append(pending(context))
    case .rehydrate: all += [pending(context), Self.isNews(context, label: label)]
    case .restore:
      all += [
        pending(context), context.versions.isOlderThanExport("t", of: reach.table),
      ]
      if let key = holdKey { all.append(isNotHeld(key)) }
    }
    if !context.isAhead { all += guards.map { $0.isFree("t") } }
    return all.joined(separator: "\n  AND ")
  }

  /// The conditions that join the events which ask for the change to the rows that they reach.
  func reachedRows(
    _ range: EventRange, _ context: BatchContext
  ) -> [SQL] {
    var all = [range.standing]
    if isRestore {
      all.append(context.isAhead ? "s.restores" : "s.id IN (SELECT id FROM lethe_restored)")
    } else {
      all.append("s.reason = ANY (\(reasons)::lethe.reason[])")
    }
    all += reach.join.conditions
    if let column = reach.idTime { all.append(IDTime.condition(column, range)) }
    if let only {
      all.append(
        """
        t.tableoid = \(only.part)::bigint::oid \
        AND t.ctid = \(only.place)::tid
        """)
    }
    return all
  }

  private func assignments() -> SQL {
    let (values, cuts) = effect
    let sets = values.map { "\(identifier: $0.column) = \(value($0))" as SQL }
    return
      (sets
      + cuts.map {
        "\(identifier: $0.column) = \(cut($0, of: "t.\(identifier: $0.column)"))" as SQL
      })
      .joined(separator: ", ")
  }

  /// The columns that it changes.
  var columnsSet: [String] { effect.values.map(\.column) + effect.cuts.map(\.column) }

  var effect: (values: [ColumnValue], cuts: [JSONCut]) {
    switch kind {
    case .delete: ([], [])
    case .protect(let set, _): (set, [])
    case .scrubGeo(let erasure), .redact(let erasure): (erasure.set, erasure.cut)
    case .rehydrate(let mark): (mark, [])
    case .restore(_, let to): (to, [])
    }
  }

  /// The condition that a row still has something to change.
  private func pending(_ context: BatchContext) -> SQL {
    if case .restore(let from, _) = kind {
      // What is not as Lethe left it was changed by somebody else, and is theirs.
      return from.map { isAsSet($0) }.joined(separator: " AND ")
    }
    if let protection = protection(in: context) { return wants(protection, context) }
    let (values, cuts) = effect
    var parts = values.map { differs($0) }
    for cut in cuts {
      parts.append(has(cut.paths, in: "t.\(identifier: cut.column)"))
    }
    return "(\(parts.joined(separator: " OR ")))"
  }

  // MARK: Values

  /// A column compared with the value that it is set to. One that takes a time anew each time is as it is
  /// set once it has any.
  func isAsSet(_ value: ColumnValue) -> SQL { compared(value, isDistinct: false) }

  /// The opposite.
  func differs(_ value: ColumnValue) -> SQL { compared(value, isDistinct: true) }

  private func compared(_ value: ColumnValue, isDistinct: Bool) -> SQL {
    let name: SQL = "t.\(identifier: value.column)"
    if expression(of: value) != nil {
      return isDistinct ? "\(name) IS NULL" : "\(name) IS NOT NULL"
    }
    let text: SQL = reach.table.columns[value.column]?.hasEquality == false ? "::text" : ""
    let comparison: SQL = isDistinct ? "IS DISTINCT FROM" : "IS NOT DISTINCT FROM"
    return "\(name)\(text) \(comparison) \(self.value(value))\(text)"
  }

  func expression(of value: ColumnValue) -> ValueExpression? {
    reach.table.columns[value.column].flatMap { ValueExpression(value.value, column: $0) }
  }

  /// The cast settles the placeholder's type, which the two sides could otherwise infer differently.
  func value(_ value: ColumnValue) -> SQL {
    let type = reach.table.columns[value.column]?.typeSQL ?? "text"
    if let expression = expression(of: value) { return "\(expression.sql)::\(type)" }
    return "\(value.value)::\(type)"
  }

  /// The condition that JSON has something at one of the paths.
  func has(_ paths: [[String]], in json: SQL) -> SQL {
    let parts = paths.map { "\(json)::jsonb #> \($0)::text[] IS NOT NULL" as SQL }
    return "(\(parts.joined(separator: " OR ")))"
  }

  /// Cuts the paths that the value has: looking for one in a scalar, or for a key in an array, would be
  /// an error. The empty path cuts nothing.
  func cut(_ cut: JSONCut, of json: SQL) -> SQL {
    let type = reach.table.columns[cut.column]?.typeSQL ?? "jsonb"
    let paths = cut.paths.map { path -> SQL in
      let path: SQL = "\(path)::text[]"
      return " #- CASE WHEN \(json)::jsonb #> \(path) IS NOT NULL THEN \(path) ELSE '{}' END"
    }
    return """
      CASE WHEN jsonb_typeof(\(json)::jsonb) IN ('object', 'array') \
      THEN (\(json)::jsonb\(paths.joined()))::\(type) ELSE \(json)::\(type) END
      """
  }

  // MARK: What a change must not undo

  /// The same edit, by the times that the platform gives it, is not acted on twice by a dataset: the ID may
  /// have been fetched again meanwhile. Edits without any time are one and the same. What this batch itself
  /// has recorded does not count.
  ///
  /// - Parameter label: of the change that was made for it; nil if the ID was queued.
  static func isNews(
    _ context: BatchContext, label: String?
  ) -> SQL {
    let wasMade = label.map { " OR e.changed ? \($0)" as SQL } ?? ""
    return """
      NOT EXISTS (
        SELECT FROM lethe.event AS e
        JOIN lethe.chunk AS ec ON ec.chunk_id = e.chunk_id
        JOIN lethe.run AS er ON er.run_id = ec.run_id
        WHERE e.id = s.id AND e.reason = s.reason AND \(isSameEdit("e.created_at", "e.redacted_at"))
          AND e.cause_id IS NULL AND e.superseded_by IS NULL
          AND (e.action = 'rehydrate'\(wasMade))
          AND ec.dataset = \(context.dataset)
          AND er.pipeline = \(context.pipeline)
          AND NOT (e.chunk_id = \(context.chunkID)
                   AND e.batch = \(context.number)::integer))
      \(context.hasPrunedRecords ? "AND \(isNotTraced(context))" as SQL : "")
      """
  }

  /// The condition that times of what was answered before are those of the event `s`: the time of the edit, or
  /// where the platform does not tell it, that of its post.
  private static func isSameEdit(_ createdAt: SQL, _ redactedAt: SQL) -> SQL {
    """
    \(redactedAt) IS NOT DISTINCT FROM s.redacted_at
          AND (s.redacted_at IS NOT NULL OR \(createdAt) IS NOT DISTINCT FROM s.created_at)
    """
  }

  /// The condition that the last result that has answered for the ID of the event `s` has no trace of the same
  /// edit. The record that the trace goes back to may be pruned.
  private static func isNotTraced(
    _ context: BatchContext
  ) -> SQL {
    """
    NOT EXISTS (
      SELECT FROM lethe.coverage AS v JOIN lethe.trace AS t ON t.chunk_id = v.chunk_id,
           LATERAL (SELECT \(AuditLedger.place(of: "s.id", in: "t")) AS place) AS p
      WHERE v.pipeline = \(context.pipeline)
        AND v.dataset = \(context.dataset)
        AND v.first_id <= s.id AND v.last_id >= s.id AND t.reason = s.reason AND t.action = 'rehydrate'
        AND t.first_id <= s.id AND t.last_id >= s.id AND p.place IS NOT NULL
        AND \(isSameEdit("t.created_at[p.place]", "t.redacted_at[p.place]")))
    """
  }

  // MARK: What remains of a row

  /// Whether each changed row leaves an event record of its own.
  var recordsRows: Bool { rowIDExpression != nil }

  var rowIDExpression: SQL? {
    reach.rowID?.column.number(of: "t")
  }

  private func recordCTEs(_ context: BatchContext) -> SQL {
    guard rowIDExpression != nil, let rowID = reach.rowID else { return "" }
    let type: SQL = "\(rowID.type.rawValue)::lethe.job_type"
    let job: SQL = "\(context.jobID)"
    var sql: SQL = """
      , records AS (
      INSERT INTO lethe.event
        (id, type, reason, action, chunk_id, job_id, applied_at, changed, cause_id, batch)
      SELECT row_id, \(type), reason, \(action)::lethe.action,
             \(context.chunkID), \(job)::bigint, now(),
             pg_catalog.jsonb_build_object(\(label)::text, 1), event_id,
             \(context.number)::integer
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
}
