import Definitions
import Ledger
import SQLText
import Vocabulary
import Warehouse

/// The values that all statements of one transaction use.
struct BatchContext {
  var origin: BatchOrigin
  /// Whether deleted and redacted rows leave a tombstone.
  let tombstones: Bool
  let versions: RowVersions
  /// The reasons for which the dataset protects rows. An answer with one of them hides rows and releases no
  /// ID.
  let protecting: [String]
  /// Whether event records might have been pruned. If so, a trace can be the only record of an edit.
  let hasPrunedRecords: Bool
  /// When the statements run.
  var moment = Moment.inBatch
  /// The tables that have held rows, by their names in `lethe.hold`. Nil if they are unknown.
  var heldTables: Set<String>?
  /// The one row that a rehearsal may change. Nil for all rows that the events match.
  var onlyRow: RowPlace?

  enum Moment {
    /// For counting rows before the transaction that ends protections has begun.
    case ahead
    case inBatch
  }

  /// The place of a row: the OID of its table or partition, and its `ctid` there.
  struct RowPlace {
    let part: Int64
    let place: String
  }

  init(
    _ origin: BatchOrigin, _ plan: ApplyPlan, versions: RowVersions, hasPrunedRecords: Bool = false
  ) {
    self.origin = origin
    tombstones = plan.dataset.tombstones
    self.versions = versions
    protecting = plan.changes.filter { $0.kind.hiding != nil }.flatMap(\.reasons)
    self.hasPrunedRecords = hasPrunedRecords
  }

  /// The edits that the dataset has already applied.
  var edits: EditHistory { EditHistory(origin, hasPrunedRecords: hasPrunedRecords) }

  func mayBeHeld(_ key: HoldKey) -> Bool { heldTables?.contains(key.table) ?? true }
}

/// The SQL of a change. Rows that are already in the wanted state are not changed, so an event that is
/// applied again changes nothing.
extension Change {
  /// Changes the rows that the events of `range` match, and counts them by event in `lethe_touched`. Writes an event
  /// record for each row that has an ID of its own. If the row is deleted or redacted, also writes a tombstone.
  ///
  /// - Parameter rowsMax: the number of rows after which the statement stops. Another call continues.
  func statement(
    for range: EventRange, in context: BatchContext, rowsMax: Int? = nil
  ) -> SQL {
    """
    WITH \(changedCTEs(range, context, rowsMax: rowsMax))\(recordCTEs(context))
    INSERT INTO lethe_touched (action, table_name, id, reason, rows)
    SELECT \(action)::lethe.action, \("\(target.table.name)"),
           event_id, reason, count(*)
    FROM changed GROUP BY event_id, reason
    """
  }

  /// The CTE `changed`, which changes the rows and returns (event_id, reason), and row_id if the rows have
  /// IDs of their own. Also the CTEs that change the holds of these rows.
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
    let endedHolds = isDelete ? holdKey.flatMap { context.mayBeHeld($0) ? $0 : nil } : nil
    let rowKey = endedHolds.map { ", \($0.json(of: "t")) AS row_key" as SQL } ?? ""
    let body =
      rowsMax.map { limitedBody(range, context, rowsMax: $0) }
      ?? body(from: target.join.from, where: filter(range, context))
    return """
      \(body)
      RETURNING s.id AS event_id, s.reason\(rowID)\(further)\(rowKey)
      )\(endedHolds.map { $0.statements(context.origin).deleted() } ?? "")
      """
  }

  /// A query of (id, reason) with all rows that the change can touch. It runs before the transaction, so it may
  /// contain more rows than the change touches.
  func matches(
    of range: EventRange, in context: BatchContext, andAlso condition: SQL = "true"
  ) -> SQL {
    let context = context.ahead
    return """
      SELECT s.id, s.reason FROM \(rows(context))
      WHERE \(filter(range, context)) AND \(condition)
      """
  }

  /// A query of (id, part, place) with the places of all rows that the change can touch. Runs before the
  /// transaction.
  func locations(of range: EventRange, in context: BatchContext) -> SQL {
    let context = context.ahead
    return """
      SELECT s.id, t.tableoid AS part, t.ctid AS place
      FROM \(rows(context)) WHERE \(filter(range, context))
      """
  }

  /// How many rows of the events still need the change. Runs before the transaction.
  func count(of range: EventRange, in context: BatchContext, atMost rowsMax: Int? = nil) -> SQL {
    let limit: SQL = rowsMax.map { " LIMIT \($0)" } ?? ""
    return "SELECT count(*) FROM (\(matches(of: range, in: context))\(limit)) AS matching"
  }

  /// Verifies the change: finds rows that the change should have changed but did not. Returns a few of them,
  /// with their keys.
  func unchangedRows(of range: EventRange, in context: BatchContext, rowsMax: Int) -> SQL {
    var context = context
    // Holds might have been created since the tables with holds were looked up.
    context.heldTables = nil
    let key = target.table.primaryKey.isEmpty ? [target.match.name] : target.table.primaryKey
    let names = key.map { "\(literal: $0 + " ") || t.\(identifier: $0)::text" as SQL }
      .joined(separator: ", ")
    let condition =
      protection(in: context).map { unsettled($0, range, context) }
      ?? filter(range, context)
    return """
      SELECT pg_catalog.concat_ws(', ', \(names)) FROM \(rows(context))
      WHERE \(condition)
      LIMIT \(literal: rowsMax)
      """
  }

  /// The IDs with rows that a restore had to skip because they are newer than the export.
  func postponed(_ range: EventRange, in context: BatchContext) -> SQL {
    let (from, conditions) = target.join
    let isOld = context.versions.isOlderThanExport("t", of: target.table)
    let all =
      [range.current, "s.id IN (SELECT id FROM lethe_restored)"] + conditions
      + needsChange(context) + ["NOT \(isOld)"]
    return """
      SELECT s.id FROM \(from), \(target.table.sql) AS t WHERE \(all.joined(separator: " AND "))
      """
  }

  // MARK: The rows

  /// The events `s` and the rows `t`, and for a protection their holds `h`.
  private func rows(_ context: BatchContext) -> SQL {
    let holds = protection(in: context).map { holdJoin($0) } ?? ""
    return "\(target.join.from), \(target.table.sql) AS t\(holds)"
  }

  /// The beginning of the CTE `changed`.
  private func body(from source: SQL, where condition: SQL) -> SQL {
    if isDelete {
      return """
        changed AS (
        DELETE FROM \(target.table.sql) AS t USING \(source)
        WHERE \(condition)
        """
    }
    return """
      changed AS (
      UPDATE \(target.table.sql) AS t SET \(kind.assignments(row).joined(separator: ", ")) FROM \(source)
      WHERE \(condition)
      """
  }

  /// The beginning of `changed`, limited to some of the rows. If another transaction changes a row in the
  /// meantime, the row's place changes, and the row is left for the next call. A row that other rows depend
  /// on is also left, because the other rows could not be found without it.
  private func limitedBody(_ range: EventRange, _ context: BatchContext, rowsMax: Int) -> SQL {
    """
    s AS MATERIALIZED (
    SELECT t.ctid AS row_place, t.tableoid AS row_table, s.id, s.reason
    FROM \(target.join.from), \(target.table.sql) AS t
    WHERE \(([filter(range, context)] + hasNoDependents).joined(separator: " AND "))
    LIMIT \(literal: rowsMax)
    ), \(body(from: "s", where: "t.ctid = s.row_place AND t.tableoid = s.row_table"))
    """
  }

  /// The conditions that no other row depends on the row to delete. A row can depend on it through a further
  /// target, or through a foreign key of the table to itself.
  private var hasNoDependents: [SQL] {
    guard isDelete else { return [] }
    let ofTargets = dependents.map { dependent in
      let depends = dependent.match.equals(
        dependent.id.sql(of: "t"), of: dependent.id.kind, alias: "d")
      return "NOT EXISTS (SELECT FROM \(dependent.table.sql) AS d WHERE \(depends))" as SQL
    }
    let ofTable = target.table.references.filter {
      $0.isRestricting && $0.refers(from: target.table.name)
    }
    .map {
      """
      NOT EXISTS (SELECT FROM \($0.table.sql) AS r WHERE \($0.equality)
                    AND NOT (r.ctid = t.ctid AND r.tableoid = t.tableoid))
      """ as SQL
    }
    return ofTargets + ofTable
  }

  private func filter(_ range: EventRange, _ context: BatchContext) -> SQL {
    var all = matchingRows(range, context) + needsChange(context)
    if kind.isOncePerEdit { all.append(context.edits.isNewEdit(label: label)) }
    if isRestore {
      all.append(context.versions.isOlderThanExport("t", of: target.table))
      if let key = holdKey { all.append(key.isNotHeld) }
      if context.moment == .inBatch { all += protections.map { $0.isFree("t") } }
    }
    return all.joined(separator: "\n  AND ")
  }

  /// The conditions that join the events that need the change with the rows that they match.
  func matchingRows(_ range: EventRange, _ context: BatchContext) -> [SQL] {
    var all = [range.current]
    if isRestore {
      all.append(
        context.moment == .ahead ? "s.restores" : "s.id IN (SELECT id FROM lethe_restored)")
    } else {
      all.append("s.reason = ANY (\(reasons)::lethe.reason[])")
    }
    all += target.join.conditions
    if let column = target.idTime { all.append(IDTime.condition(column, range)) }
    if let only = context.onlyRow {
      all.append(
        """
        t.tableoid = \(only.part)::bigint::oid \
        AND t.ctid = \(only.place)::tid
        """)
    }
    return all
  }

  /// The conditions that a row is not yet in the state that the change makes.
  private func needsChange(_ context: BatchContext) -> [SQL] {
    if let protection = protection(in: context) { return [needsChange(protection)] }
    return kind.needsChange(row).map { [$0] } ?? []
  }

  // MARK: Records of a row

  /// Whether each changed row leaves an event record of its own.
  var recordsRows: Bool { rowIDExpression != nil }

  var rowIDExpression: SQL? {
    target.rowID?.column.number(of: "t")
  }

  private func recordCTEs(_ context: BatchContext) -> SQL {
    guard rowIDExpression != nil, let rowID = target.rowID else { return "" }
    return RowRecords(context.origin, of: rowID.type, action: action, label: label)
      .records(leavingTombstones: kind.isRemoving && context.tombstones)
  }
}

extension BatchContext {
  fileprivate var ahead: BatchContext {
    var context = self
    context.moment = .ahead
    return context
  }
}

extension HoldKey {
  func statements(_ origin: BatchOrigin) -> HoldStatements {
    HoldStatements(origin, table: table, keyNames: names)
  }

  /// The hold of a row `t`, for a lateral join.
  var hold: SQL { HoldStatements.hold(of: json(of: "t"), in: table) }

  /// The condition that a row `t` has no hold.
  var isNotHeld: SQL { "NOT EXISTS (\(hold))" }
}
