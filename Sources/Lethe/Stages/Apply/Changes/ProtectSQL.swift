import Definitions
import PostgreSQL
import Vocabulary
import Warehouse

/// What a `protect` sets, on a table whose rows can have holds.
struct Protection {
  let set: [ColumnValue]
  let restore: Restore
  let key: HoldKey
  /// Whether the table may have rows that are held already.
  let mayMeetHolds: Bool
}

/// The SQL of protections. A row is hidden and its hold written in one statement, with the former values of
/// just the columns that it changes:
///
///     reached   the rows of the events with something to do (only where rows may be held already)
///     old       those of them that change, locked, as they are
///     changed   the same, as they have become
///     holds     a hold for each, or further columns of one that is there
///     holders   each event's ID, as somebody who holds the row
///
/// A column that a hold has set counts as done, whichever value it was set to. A repeated answer finds
/// nothing to do and writes nothing.
extension Change {
  /// Nil for other changes, and where no hold can be or has to be kept.
  func protection(in context: BatchContext) -> Protection? {
    guard case .protect(let set, let restore) = kind, let key = holdKey else { return nil }
    let mayMeetHolds = context.mayBeHeld(key)
    guard restore.keepsHolds || mayMeetHolds else { return nil }
    return Protection(set: set, restore: restore, key: key, mayMeetHolds: mayMeetHolds)
  }

  func holdJoin(
    _ protection: Protection, _ context: BatchContext
  ) -> SQL {
    guard protection.mayMeetHolds else { return "" }
    return """

      LEFT JOIN LATERAL (\(protection.key.hold(of: protection.key.json(of: "t")))) AS h ON true
      """
  }

  // MARK: Conditions

  /// The condition that a hold `h` has a column, and the row has it as the hold has set it.
  private func isHeld(_ column: String) -> SQL {
    let name: SQL = "\(literal: column)"
    return """
      (h.set_to ? \(name) AND h.set_to ->> \(name) IS NOT DISTINCT FROM t.\(identifier: column)::text)
      """
  }

  /// The condition that a column of a row has to change. One that takes a time anew does so where it has
  /// none, and whenever another column of the action changes.
  private func wants(
    _ value: ColumnValue, _ protection: Protection
  ) -> SQL {
    var differs = differs(value)
    if expression(of: value) != nil {
      let others = protection.set.filter { expression(of: $0) == nil }
        .map { wants($0, protection) }
      differs = "(\(([differs] + others).joined(separator: " OR ")))"
    }
    guard protection.mayMeetHolds else { return differs }
    return "(\(differs) AND \(isHeld(value.column)) IS NOT TRUE)"
  }

  /// The condition that a row has a column that has to change.
  func wants(
    _ protection: Protection, _ context: BatchContext
  ) -> SQL {
    let parts = protection.set.map { wants($0, protection) }
    return "(\(parts.joined(separator: " OR ")))"
  }

  /// The columns of a row that a hold has set and that the event's ID does not hold yet.
  private func unheldColumns(
    _ protection: Protection, _ context: BatchContext
  ) -> SQL {
    let holder: SQL = """
      SELECT FROM lethe.holder AS r
      WHERE r.hold_id = h.hold_id AND r.type = \(context.type.rawValue)::lethe.job_type
        AND r.id = s.id
      """
    let columns = protection.set.map { value -> SQL in
      let name: SQL = "\(literal: value.column)"
      // An ID that holds the row by an earlier definition goes on doing so.
      let isMine: SQL = protection.restore.keepsHolds ? " AND \(name) = ANY (r.columns)" : ""
      return """
        CASE WHEN \(isHeld(value.column))
          AND NOT EXISTS (\(holder)\(isMine) OFFSET 0) THEN ARRAY[\(name)] END
        """
    }
    return columns.joined(separator: " || ")
  }

  /// The condition that an event has still something to do on a row: a column to change, or one that is
  /// held without it.
  func unsettled(
    _ protection: Protection, _ range: EventRange, _ context: BatchContext
  ) -> SQL {
    var parts = [wants(protection, context)]
    if protection.mayMeetHolds {
      parts.append("(\(unheldColumns(protection, context))) IS NOT NULL")
    }
    return (reachedRows(range, context) + ["(\(parts.joined(separator: "\n   OR ")))"])
      .joined(separator: "\n  AND ")
  }

  // MARK: Statements

  func protectCTEs(
    _ protection: Protection, _ range: EventRange, _ context: BatchContext, rowsMax: Int?,
    returning columns: [SQL]
  ) -> SQL {
    var ctes: [SQL] = []
    if protection.mayMeetHolds {
      ctes.append(reachedCTE(protection, range, context, rowsMax: rowsMax, columns))
    }
    ctes += [
      oldCTE(protection, range, context, rowsMax: rowsMax, columns),
      changedCTE(protection, columns),
    ]
    if protection.restore.keepsHolds {
      ctes += [
        holdsCTE(protection, context), holdersCTE(protection, context),
        """
        named AS (
        INSERT INTO lethe.held_key (table_name, key_columns)
        SELECT \(protection.key.table)::text,
               \(protection.key.names)::text[]
        WHERE EXISTS (SELECT FROM changed)
        ON CONFLICT DO NOTHING
        )
        """,
      ]
    } else {
      ctes += keptCTEs(protection, context)
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
    """
    reached AS MATERIALIZED (
    SELECT \(eventColumns(columns)), \(keyColumns(protection)), h.hold_id,
           \(wants(protection, context)) AS wants,
           \(unheldColumns(protection, context)) AS unheld
    FROM \(reach.join.from), \(reach.table.sql) AS t\(holdJoin(protection, context))
    WHERE \(unsettled(protection, range, context))
    \(rowsMax.map { "LIMIT \(literal: $0)" as SQL } ?? "")
    )
    """
  }

  /// Locked first, so that what is kept is what the row had when it was hidden.
  private func oldCTE(
    _ protection: Protection, _ range: EventRange, _ context: BatchContext, rowsMax: Int?,
    _ columns: [SQL]
  ) -> SQL {
    let former = protection.set.enumerated().map {
      ", t.\(identifier: $1.column)::text AS f\(literal: $0)" as SQL
    }
    .joined()
    let flags = protection.set.enumerated().map {
      ", \(wants($1, protection)) AS w\(literal: $0)" as SQL
    }
    .joined()
    let rowKey: SQL = ", \(protection.key.json(of: "t")) AS row_key"
    guard protection.mayMeetHolds else {
      return """
        old AS MATERIALIZED (
        SELECT \(eventColumns(columns)), \(keyColumns(protection))\(former)\(flags)\(rowKey)
        FROM \(reach.join.from), \(reach.table.sql) AS t
        WHERE \((reachedRows(range, context) + [wants(protection, context)])
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
      FROM reached AS q, \(reach.table.sql) AS t\(holdJoin(protection, context))
      WHERE q.wants AND \(keyEquality(protection, with: "q")) AND \(wants(protection, context))
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
      let new = self.value(value)
      return isOne
        ? "\(column) = \(new)"
        : "\(column) = CASE WHEN o.w\(literal: index) THEN \(new) ELSE t.\(column) END"
    }
    // A column that a trigger has given another value is not held: the verification complains of it.
    func object(_ text: (Int, ColumnValue) -> SQL) -> SQL {
      protection.set.enumerated().map { index, value in
        """
        CASE WHEN o.w\(literal: index) AND \(isAsSet(value))
             THEN pg_catalog.jsonb_build_object(\(literal: value.column), \(text(index, value)))
             ELSE '{}' END
        """ as SQL
      }.joined(separator: " || ")
    }
    let rowID: SQL = rowIDExpression == nil ? "" : ", o.row_id"
    let further = columns.map { ", o.\($0)" as SQL }.joined()
    return """
      changed AS (
      UPDATE \(reach.table.sql) AS t SET \(sets.joined(separator: ", ")) FROM old AS o
      WHERE \(keyEquality(protection, with: "o"))
      RETURNING o.event_id, o.reason\(rowID)\(further), o.row_key,
                \(object { index, _ in "o.f\(literal: index)" }) AS former,
                \(object { _, value in "t.\(identifier: value.column)::text" }) AS set_to
      )
      """
  }

  private func holdsCTE(
    _ protection: Protection, _ context: BatchContext
  ) -> SQL {
    var ignoresWriters = false
    if case .former(_, .ignore) = protection.restore { ignoresWriters = true }
    let (type, id) = rowSubject(context)
    return """
      holds AS (
      INSERT INTO lethe.hold AS g
        (table_name, row_key, former, set_to, ignores_writers, row_type, row_id, cluster)
      SELECT \(protection.key.table)::text, row_key, former, set_to,
             \(ignoresWriters)::boolean, \(type), \(id),
             \(context.versions.cluster)::bigint
      FROM changed WHERE set_to <> '{}'
      ON CONFLICT (table_name, row_key) DO UPDATE
      SET former = g.former || excluded.former, set_to = g.set_to || excluded.set_to,
          ignores_writers = excluded.ignores_writers, xid = excluded.xid, cluster = excluded.cluster
      RETURNING g.hold_id, g.row_key
      )
      """
  }

  /// What the row is, for its hold.
  func rowSubject(
    _ context: BatchContext
  ) -> (type: SQL, id: SQL) {
    if reach.isOwn {
      return ("\(context.type.rawValue)::lethe.job_type", "event_id")
    }
    guard let rowID = reach.rowID else { return ("NULL::lethe.job_type", "NULL::bigint") }
    let type: SQL = "\(rowID.type.rawValue)"
    return ("CASE WHEN row_id IS NOT NULL THEN \(type)::lethe.job_type END", "row_id")
  }

  private func holdersCTE(
    _ protection: Protection, _ context: BatchContext
  ) -> SQL {
    let type: SQL = "\(context.type.rawValue)::lethe.job_type"
    let changed = protection.set.enumerated().map { index, value in
      "CASE WHEN o.w\(literal: index) THEN ARRAY[\(literal: value.column)] END" as SQL
    }
    // Full, for a full join is a hash or a merge join: taking the batch for a few rows, as without
    // statistics it may, the server would compare each row with each.
    var parts: [SQL] = [
      """
      SELECT g.hold_id, o.event_id, pg_catalog.unnest(\(changed.joined(separator: " || "))) AS name
      FROM holds AS g FULL JOIN old AS o USING (row_key) WHERE coalesce(g.hold_id, 0) <> 0
      """
    ]
    if protection.mayMeetHolds {
      parts.append(
        """
        SELECT q.hold_id, q.event_id, pg_catalog.unnest(q.unheld) FROM reached AS q
        WHERE q.unheld IS NOT NULL
        """
      )
    }
    return """
      holders AS (
      INSERT INTO lethe.holder AS r
        (hold_id, type, id, columns, pipeline, dataset, job_id, asked_at)
      SELECT hold_id, \(type), event_id, pg_catalog.array_agg(DISTINCT name ORDER BY name),
             \(context.pipeline)::text, \(context.dataset)::text,
             \(context.jobID)::bigint,
             \(context.askedAt)::timestamptz
      FROM (\(parts.joined(separator: "\nUNION ALL\n"))) AS held
      GROUP BY hold_id, event_id
      ON CONFLICT (hold_id, type, id) DO UPDATE
      SET columns = (SELECT pg_catalog.array_agg(DISTINCT name ORDER BY name)
                     FROM pg_catalog.unnest(r.columns || excluded.columns) AS name)
      )
      """
  }

  /// Without a way back nobody may open the row again: the columns leave their holds, and with the last of
  /// them the hold is closed.
  private func keptCTEs(
    _ protection: Protection, _ context: BatchContext
  ) -> [SQL] {
    let columns: SQL = "\(protection.set.map(\.column))::text[]"
    // Also those whose rows somebody has opened, and that are hidden again now.
    let ending: SQL = "h.hold_id IN (SELECT hold_id FROM reached WHERE unheld IS NOT NULL OR wants)"
    return [
      """
      emptied AS (
      DELETE FROM lethe.hold AS h WHERE \(ending) AND h.set_to - \(columns) = '{}' RETURNING h.*
      )
      """,
      closedHoldCTE(of: "emptied", outcome: "kept", context) { hold in
        "(SELECT min(event_id) FROM reached AS q WHERE q.hold_id = \(hold).hold_id)"
      },
      """
      narrowed AS (
      UPDATE lethe.hold AS h SET former = h.former - \(columns), set_to = h.set_to - \(columns)
      WHERE \(ending) AND h.set_to - \(columns) <> '{}'
      )
      """,
    ]
  }

  // MARK: What other changes do to holds

  /// A row that goes takes its hold along.
  func deletedHoldCTEs(
    _ key: HoldKey, _ context: BatchContext
  ) -> SQL {
    """
    , going AS MATERIALIZED (
    SELECT g.hold_id, c.event_id
    FROM changed AS c CROSS JOIN LATERAL (\(key.hold(of: "c.row_key"))) AS g
    ), freed AS (
    DELETE FROM lethe.hold AS h USING going AS c WHERE h.hold_id = c.hold_id
    RETURNING h.*, c.event_id
    ), \(closedHoldCTE(of: "freed", outcome: "deleted", context) { "\($0).event_id" })
    """
  }

  private func closedHoldCTE(
    of holds: SQL, outcome: String, _ context: BatchContext,
    event: (SQL) -> SQL
  ) -> SQL {
    """
    closed AS (
    INSERT INTO lethe.closed_hold
      (hold_id, table_name, row_key, row_type, row_id, held_at, outcome, type, id, job_id)
    SELECT x.hold_id, x.table_name, x.row_key, x.row_type, x.row_id, x.held_at, \(literal: outcome),
           \(context.type.rawValue)::lethe.job_type, \(event("x")),
           \(context.jobID)::bigint
    FROM \(holds) AS x
    )
    """
  }

  /// Takes out of the holds of the rows that it reaches what it takes out of the rows: nobody gets it back. A
  /// hold that is left without a column ends. Nil for a change that takes nothing out of rows that stay, and
  /// where none of them is held.
  func holdErasure(
    of range: EventRange, in context: BatchContext
  ) -> SQL? {
    guard let erasure, let key = holdKey, context.mayBeHeld(key) else { return nil }
    let columns: SQL = "\(erasure.set.map(\.column))::text[]"
    var (former, setTo): (SQL, SQL) = ("(h.former - \(columns))", "(h.set_to - \(columns))")
    for cut in erasure.cut {
      former += " || \(self.cut(cut, in: "h.former"))"
      setTo += " || \(self.cut(cut, in: "h.set_to"))"
    }
    let all: SQL = "\((erasure.set.map(\.column) + erasure.cut.map(\.column)))"
    let (from, _) = reach.join
    let sql: SQL = """
      WITH reached AS MATERIALIZED (
        SELECT DISTINCT ON (h.hold_id) h.hold_id, s.id AS event_id,
               \(former) AS former, \(setTo) AS set_to
        FROM \(from), \(reach.table.sql) AS t
        JOIN LATERAL (\(key.hold(of: key.json(of: "t")))) AS h ON true
        WHERE \(reachedRows(range, context).joined(separator: "\n  AND "))
          AND h.set_to ?| \(all)::text[]
          AND (h.former, h.set_to) IS DISTINCT FROM (\(former), \(setTo))
        ORDER BY h.hold_id, s.id
      ), emptied AS (
        DELETE FROM lethe.hold AS h USING reached AS q
        WHERE h.hold_id = q.hold_id AND q.set_to = '{}' RETURNING h.*, q.event_id
      ), \(closedHoldCTE(of: "emptied", outcome: "erased", context) { "\($0).event_id" })
      UPDATE lethe.hold AS h SET former = q.former, set_to = q.set_to
      FROM reached AS q WHERE h.hold_id = q.hold_id AND q.set_to <> '{}'
      """
    return sql
  }

  /// A column's kept JSON without the paths, as an object to be merged in.
  private func cut(_ cut: JSONCut, in values: SQL) -> SQL {
    let name: SQL = "\(literal: cut.column)"
    let json: SQL = "(\(values) ->> \(name))"
    return """
      CASE WHEN \(has(cut.paths, in: json))
           THEN pg_catalog.jsonb_build_object(\(name), (\(self.cut(cut, of: json)))::text) ELSE '{}' END
      """
  }

  /// The condition that a row has no hold.
  func isNotHeld(_ key: HoldKey) -> SQL {
    "NOT EXISTS (\(key.hold(of: key.json(of: "t"))))"
  }
}
