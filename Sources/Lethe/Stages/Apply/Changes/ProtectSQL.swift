import Definitions
import Ledger
import SQLText
import Vocabulary
import Warehouse

/// The values that a `protect` sets, in a table that can have held rows.
struct Protection {
  let set: [ColumnValue]
  let restore: Restore
  let key: HoldKey
  /// Whether the table may already have held rows.
  let mayHaveHolds: Bool
}

/// The SQL of protections. One statement hides a row and writes its hold, which contains the former values of
/// only the columns that the statement changes:
///
///     reached   the rows that still need something for an event (only where rows may be held already)
///     old       those of them that change, locked, with their old values
///     changed   the same rows, with their new values
///     holds     a hold for each row, or more columns for an existing hold
///     holders   each event's ID, as a holder of the row
///
/// A column that still has the value that a hold has set counts as done, even if the definition now sets another
/// value. So a repeated answer finds nothing to do and writes nothing.
extension Change {
  /// The protection of this change. Nil if the change is not a protection, or if no hold is possible or
  /// needed.
  func protection(in context: BatchContext) -> Protection? {
    guard let hiding = kind.hiding, let key = holdKey else { return nil }
    let mayHaveHolds = context.mayBeHeld(key)
    guard hiding.restore.keepsHolds || mayHaveHolds else { return nil }
    return Protection(
      set: hiding.set, restore: hiding.restore, key: key, mayHaveHolds: mayHaveHolds)
  }

  func holdJoin(_ protection: Protection) -> SQL {
    guard protection.mayHaveHolds else { return "" }
    return """

      LEFT JOIN LATERAL (\(protection.key.hold)) AS h ON true
      """
  }

  // MARK: Conditions

  /// The condition that a hold `h` contains a column, and that the row still has the value that the hold has
  /// set.
  private func isHeld(_ column: String) -> SQL {
    let name: SQL = "\(literal: column)"
    return """
      (h.set_to ? \(name) AND h.set_to ->> \(name) IS NOT DISTINCT FROM t.\(identifier: column)::text)
      """
  }

  /// The condition that a column of a row has to change. A column that gets the current time changes if it is
  /// NULL, and whenever another column of the action changes.
  private func mustChange(
    _ value: ColumnValue, _ protection: Protection
  ) -> SQL {
    var differs = row.differs(value)
    if row.expression(of: value) != nil {
      let others = protection.set.filter { row.expression(of: $0) == nil }
        .map { mustChange($0, protection) }
      differs = .any([differs] + others)
    }
    guard protection.mayHaveHolds else { return differs }
    return "(\(differs) AND \(isHeld(value.column)) IS NOT TRUE)"
  }

  /// The condition that a row has a column that has to change.
  func needsChange(_ protection: Protection) -> SQL {
    .any(protection.set.map { mustChange($0, protection) })
  }

  /// The columns of a row that a hold has set but that the event's ID does not hold yet.
  private func unheldColumns(
    _ protection: Protection, _ context: BatchContext
  ) -> SQL {
    let holder: SQL = """
      SELECT FROM lethe.holder AS r
      WHERE r.hold_id = h.hold_id AND r.type = \(context.origin.typeSQL)
        AND r.id = s.id
      """
    let columns = protection.set.map { value -> SQL in
      let name: SQL = "\(literal: value.column)"
      // If the definition no longer keeps holds, an ID that already holds the row gets no more columns.
      let isMine: SQL = protection.restore.keepsHolds ? " AND \(name) = ANY (r.columns)" : ""
      return """
        CASE WHEN \(isHeld(value.column))
          AND NOT EXISTS (\(holder)\(isMine) OFFSET 0) THEN ARRAY[\(name)] END
        """
    }
    return columns.joined(separator: " || ")
  }

  /// The condition that an event still has something to do on a row: a column to change, or a held column
  /// that its ID does not hold yet.
  func unsettled(
    _ protection: Protection, _ range: EventRange, _ context: BatchContext
  ) -> SQL {
    var parts = [needsChange(protection)]
    if protection.mayHaveHolds {
      parts.append("(\(unheldColumns(protection, context))) IS NOT NULL")
    }
    return (matchingRows(range, context) + [.any(parts)]).joined(separator: "\n  AND ")
  }

  // MARK: Statements

  func protectCTEs(
    _ protection: Protection, _ range: EventRange, _ context: BatchContext, rowsMax: Int?,
    returning columns: [SQL]
  ) -> SQL {
    var ctes: [SQL] = []
    if protection.mayHaveHolds {
      ctes.append(reachedCTE(protection, range, context, rowsMax: rowsMax, columns))
    }
    ctes += [
      oldCTE(protection, range, context, rowsMax: rowsMax, columns),
      changedCTE(protection, columns),
    ]
    let holds = protection.key.statements(context.origin)
    if protection.restore.keepsHolds {
      let (type, id) = rowSubject(context)
      ctes += [
        holds.holds(ignoresWriters: protection.restore.ignoresWriters, type: type, id: id),
        holds.holders(of: heldColumns(protection)), holds.named(for: "changed"),
      ]
    } else {
      ctes += holds.kept(protection.set.map(\.column))
    }
    return ctes.joined(separator: ", ")
  }

  private func keyColumns(_ protection: Protection) -> SQL {
    protection.key.columns.enumerated().map { "t.\($1.sql) AS k\(literal: $0)" as SQL }.joined(
      separator: ", ")
  }

  private func keyEquality(_ protection: Protection, with other: SQL) -> SQL {
    protection.key.columns.enumerated().map { "t.\($1.sql) = \(other).k\(literal: $0)" as SQL }
      .joined(separator: " AND ")
  }

  private func eventColumns(_ columns: [SQL]) -> SQL {
    let rowID = rowIDExpression.map { ", \($0) AS row_id" as SQL } ?? ""
    return "s.id AS event_id, s.reason\(rowID)" + columns.map { ", s.\($0)" as SQL }.joined()
  }

  private func reachedCTE(
    _ protection: Protection, _ range: EventRange, _ context: BatchContext, rowsMax: Int?,
    _ columns: [SQL]
  ) -> SQL {
    // A part of an event changes at most `rowsMax` rows. The rows that only get a holder are left to the event's last
    // transaction: a part that finds only such rows would change none, and the parts would end.
    let isDue =
      rowsMax == nil
      ? unsettled(protection, range, context)
      : (matchingRows(range, context) + [needsChange(protection)]).joined(separator: "\n  AND ")
    return """
      reached AS MATERIALIZED (
      SELECT \(eventColumns(columns)), \(keyColumns(protection)), h.hold_id,
             \(needsChange(protection)) AS wants,
             \(unheldColumns(protection, context)) AS unheld
      FROM \(target.join.from), \(target.table.sql) AS t\(holdJoin(protection))
      WHERE \(isDue)
      \(rowsMax.map { "LIMIT \(literal: $0)" as SQL } ?? "")
      )
      """
  }

  /// The CTE `old`. It locks the rows first, so that the stored values are the values at the moment when the
  /// row is hidden.
  private func oldCTE(
    _ protection: Protection, _ range: EventRange, _ context: BatchContext, rowsMax: Int?,
    _ columns: [SQL]
  ) -> SQL {
    let former = protection.set.enumerated().map {
      ", t.\(identifier: $1.column)::text AS f\(literal: $0)" as SQL
    }
    .joined()
    let flags = protection.set.enumerated().map {
      ", \(mustChange($1, protection)) AS w\(literal: $0)" as SQL
    }
    .joined()
    let rowKey: SQL = ", \(protection.key.json(of: "t")) AS row_key"
    guard protection.mayHaveHolds else {
      return """
        old AS MATERIALIZED (
        SELECT \(eventColumns(columns)), \(keyColumns(protection))\(former)\(flags)\(rowKey)
        FROM \(target.join.from), \(target.table.sql) AS t
        WHERE \((matchingRows(range, context) + [needsChange(protection)])
          .joined(separator: "\n  AND "))
        \(rowsMax.map { "LIMIT \(literal: $0)" as SQL } ?? "") FOR NO KEY UPDATE OF t
        )
        """
    }
    let rowID: SQL = rowIDExpression == nil ? "" : ", q.row_id"
    let further = columns.map { ", q.\($0)" as SQL }.joined()
    let keys = protection.key.columns.indices.map { "q.k\(literal: $0)" as SQL }.joined(
      separator: ", ")
    return """
      old AS MATERIALIZED (
      SELECT q.event_id, q.reason\(rowID)\(further), \(keys)\(former)\(flags)\(rowKey)
      FROM reached AS q, \(target.table.sql) AS t\(holdJoin(protection))
      WHERE q.wants AND \(keyEquality(protection, with: "q")) AND \(needsChange(protection))
      FOR NO KEY UPDATE OF t
      )
      """
  }

  private func changedCTE(
    _ protection: Protection, _ columns: [SQL]
  ) -> SQL {
    let isOne = protection.set.count == 1
    let sets = protection.set.enumerated().map { index, value -> SQL in
      let column: SQL = "\(identifier: value.column)"
      let new = row.value(value)
      return isOne
        ? "\(column) = \(new)"
        : "\(column) = CASE WHEN o.w\(literal: index) THEN \(new) ELSE t.\(column) END"
    }
    // If a trigger gave a column another value, the column is not held. The verification reports this.
    func object(_ text: (Int, ColumnValue) -> SQL) -> SQL {
      protection.set.enumerated().map { index, value in
        """
        CASE WHEN o.w\(literal: index) AND \(row.isAsSet(value))
             THEN pg_catalog.jsonb_build_object(\(literal: value.column), \(text(index, value)))
             ELSE '{}' END
        """ as SQL
      }.joined(separator: " || ")
    }
    let rowID: SQL = rowIDExpression == nil ? "" : ", o.row_id"
    let further = columns.map { ", o.\($0)" as SQL }.joined()
    return """
      changed AS (
      UPDATE \(target.table.sql) AS t SET \(sets.joined(separator: ", ")) FROM old AS o
      WHERE \(keyEquality(protection, with: "o"))
      RETURNING o.event_id, o.reason\(rowID)\(further), o.row_key,
                \(object { index, _ in "o.f\(literal: index)" }) AS former,
                \(object { _, value in "t.\(identifier: value.column)::text" }) AS set_to
      )
      """
  }

  /// The type and ID of the row, for its hold.
  func rowSubject(
    _ context: BatchContext
  ) -> (type: SQL, id: SQL) {
    if target.isOwn {
      return ("\(context.origin.typeSQL)", "event_id")
    }
    guard let rowID = target.rowID else { return ("NULL::lethe.job_type", "NULL::bigint") }
    let type: SQL = "\(rowID.type.rawValue)"
    return ("CASE WHEN row_id IS NOT NULL THEN \(type)::lethe.job_type END", "row_id")
  }

  /// The columns that each event's ID now holds, as a query of (hold_id, event_id, name).
  private func heldColumns(_ protection: Protection) -> SQL {
    let changed = protection.set.enumerated().map { index, value in
      "CASE WHEN o.w\(literal: index) THEN ARRAY[\(literal: value.column)] END" as SQL
    }
    // A full join is always a hash or merge join. For another join, the planner could choose a nested loop over all
    // rows of the batch, because without statistics it may expect few rows.
    var parts: [SQL] = [
      """
      SELECT g.hold_id, o.event_id, pg_catalog.unnest(\(changed.joined(separator: " || "))) AS name
      FROM holds AS g FULL JOIN old AS o USING (row_key) WHERE coalesce(g.hold_id, 0) <> 0
      """
    ]
    if protection.mayHaveHolds {
      parts.append(
        """
        SELECT q.hold_id, q.event_id, pg_catalog.unnest(q.unheld) FROM reached AS q
        WHERE q.unheld IS NOT NULL
        """
      )
    }
    return parts.joined(separator: "\nUNION ALL\n")
  }

  // MARK: What other changes do to holds

  /// Removes from the holds the values that the change removes from their rows, so that they are never
  /// restored. A hold without a column left ends. Nil if the change removes nothing from rows that stay, or
  /// if the table has no held rows.
  func holdErasure(
    of range: EventRange, in context: BatchContext
  ) -> SQL? {
    guard let erasure = kind.erasure, let key = holdKey, context.mayBeHeld(key) else { return nil }
    let columns: SQL = "\(erasure.set.map(\.column))::text[]"
    var (former, setTo): (SQL, SQL) = ("(h.former - \(columns))", "(h.set_to - \(columns))")
    for cut in erasure.cut {
      former += " || \(self.cut(cut, in: "h.former"))"
      setTo += " || \(self.cut(cut, in: "h.set_to"))"
    }
    let all: SQL = "\((erasure.set.map(\.column) + erasure.cut.map(\.column)))"
    return key.statements(context.origin).erase(
      """
      SELECT DISTINCT ON (h.hold_id) h.hold_id, s.id AS event_id,
             \(former) AS former, \(setTo) AS set_to
      FROM \(target.join.from), \(target.table.sql) AS t
      JOIN LATERAL (\(key.hold)) AS h ON true
      WHERE \(matchingRows(range, context).joined(separator: "\n  AND "))
        AND h.set_to ?| \(all)::text[]
        AND (h.former, h.set_to) IS DISTINCT FROM (\(former), \(setTo))
      ORDER BY h.hold_id, s.id
      """)
  }

  /// The stored JSON of a column without the paths, as an object to merge in.
  private func cut(_ cut: JSONCut, in values: SQL) -> SQL {
    let name: SQL = "\(literal: cut.column)"
    let json: SQL = "(\(values) ->> \(name))"
    return """
      CASE WHEN \(row.has(cut.paths, in: json))
           THEN pg_catalog.jsonb_build_object(\(name), (\(row.cut(cut, of: json)))::text) ELSE '{}' END
      """
  }
}
