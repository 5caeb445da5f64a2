package import SQLText

/// The SQL of apply for the holds of one table's rows. Most of it is common table expressions in the statement that
/// changes the rows.
package struct HoldStatements: Sendable {
  let origin: BatchOrigin
  /// The value of `lethe.hold.table_name`.
  let table: String
  /// The columns of `lethe.hold.row_key`, in the order of `lethe.held_key`.
  let keyNames: [String]

  package init(_ origin: BatchOrigin, table: String, keyNames: [String]) {
    self.origin = origin
    self.table = table
    self.keyNames = keyNames
  }

  // MARK: Rows that are hidden

  /// The CTE `holds`: adds a hold for each row of `changed`, or adds columns to an existing hold. It returns hold_id
  /// and row_key.
  /// - Parameters:
  ///   - ignoresWriters: whether a row is restored even if another program has changed it since the export.
  ///   - type: SQL: the type of the row's own ID.
  ///   - id: SQL: the row's own ID.
  package func holds(ignoresWriters: Bool, type: SQL, id: SQL) -> SQL {
    """
    holds AS (
    INSERT INTO lethe.hold AS g
      (table_name, row_key, former, set_to, ignores_writers, row_type, row_id, cluster)
    SELECT \(table)::text, row_key, former, set_to,
           \(ignoresWriters)::boolean, \(type), \(id),
           \(origin.cluster)::bigint
    FROM changed WHERE set_to <> '{}'
    ON CONFLICT (table_name, row_key) DO UPDATE
    SET former = g.former || excluded.former, set_to = g.set_to || excluded.set_to,
        ignores_writers = excluded.ignores_writers, xid = excluded.xid, cluster = excluded.cluster
    RETURNING g.hold_id, g.row_key
    )
    """
  }

  /// The CTE `holders`: adds each event's ID as a holder of its row.
  /// - Parameter held: a query of (hold_id, event_id, name), with a row for each column that the ID holds.
  package func holders(of held: SQL) -> SQL {
    """
    holders AS (
    INSERT INTO lethe.holder AS r
      (hold_id, type, id, columns, pipeline, dataset, job_id, asked_at)
    SELECT hold_id, \(origin.typeSQL), event_id, pg_catalog.array_agg(DISTINCT name ORDER BY name),
           \(origin.pipeline)::text, \(origin.dataset)::text,
           \(origin.jobID)::bigint,
           \(origin.askedAt)::timestamptz
    FROM (\(held)) AS held
    GROUP BY hold_id, event_id
    ON CONFLICT (hold_id, type, id) DO UPDATE
    SET columns = (SELECT pg_catalog.array_agg(DISTINCT name ORDER BY name)
                   FROM pg_catalog.unnest(r.columns || excluded.columns) AS name)
    )
    """
  }

  /// The CTE `named`: records the key columns that identify the rows of `source`.
  package func named(for source: SQL) -> SQL {
    """
    named AS (
    INSERT INTO lethe.held_key (table_name, key_columns)
    SELECT \(table)::text, \(keyNames)::text[]
    WHERE EXISTS (SELECT FROM \(source))
    ON CONFLICT DO NOTHING
    )
    """
  }

  /// CTEs for rows that stay hidden permanently. They remove the columns from the holds of `reached`, and end a hold
  /// that has no column left. This includes rows that another program has made visible and that are hidden again now.
  package func kept(_ columns: [String]) -> [SQL] {
    let columns: SQL = "\(columns)::text[]"
    let ending: SQL = "h.hold_id IN (SELECT hold_id FROM reached WHERE unheld IS NOT NULL OR wants)"
    return [
      """
      emptied AS (
      DELETE FROM lethe.hold AS h WHERE \(ending) AND h.set_to - \(columns) = '{}' RETURNING h.*
      )
      """,
      closed(
        "emptied", as: "kept",
        event: "(SELECT min(event_id) FROM reached AS q WHERE q.hold_id = x.hold_id)"),
      """
      narrowed AS (
      UPDATE lethe.hold AS h SET former = h.former - \(columns), set_to = h.set_to - \(columns)
      WHERE \(ending) AND h.set_to - \(columns) <> '{}'
      )
      """,
    ]
  }

  /// The statement that creates a hold for each row of the query `hidden`. These are rows that an earlier version has
  /// hidden without holds.
  /// - Parameters:
  ///   - hidden: a query of event_id, row_key, former and set_to, and of row_id if rows have an ID.
  ///   - columns: the columns that the IDs hold.
  package func holdFormer(
    _ hidden: SQL, columns: [String], ignoresWriters: Bool, type: SQL, id: SQL
  ) -> SQL {
    """
    WITH hidden AS MATERIALIZED (
      \(hidden)
    ), holds AS (
      INSERT INTO lethe.hold
        (table_name, row_key, former, set_to, ignores_writers, row_type, row_id, cluster)
      SELECT DISTINCT ON (row_key) \(table)::text, row_key, former, set_to,
             \(ignoresWriters)::boolean, \(type), \(id),
             \(origin.cluster)::bigint
      FROM hidden ORDER BY row_key, event_id
      RETURNING hold_id, row_key
    ), \(named(for: "hidden"))
    INSERT INTO lethe.holder (hold_id, type, id, columns, pipeline, dataset, job_id, asked_at)
    SELECT DISTINCT h.hold_id, \(origin.typeSQL), r.event_id,
           \(columns)::text[], \(origin.pipeline)::text,
           \(origin.dataset)::text, \(origin.jobID)::bigint,
           \(origin.askedAt)::timestamptz
    FROM holds AS h JOIN hidden AS r USING (row_key)
    """
  }

  // MARK: Rows that are deleted or emptied

  /// CTEs that end the hold of a deleted row. They must follow `changed`, which returns row_key and event_id.
  package func deleted() -> SQL {
    """
    , going AS MATERIALIZED (
    SELECT g.hold_id, c.event_id
    FROM changed AS c CROSS JOIN LATERAL (\(Self.hold(of: "c.row_key", in: table))) AS g
    ), freed AS (
    DELETE FROM lethe.hold AS h USING going AS c WHERE h.hold_id = c.hold_id
    RETURNING h.*, c.event_id
    ), \(closed("freed", as: "deleted", event: "x.event_id"))
    """
  }

  /// The statement that changes the values in the holds of a query, and ends the holds that have no column left.
  /// - Parameter reached: a query of hold_id, event_id, former and set_to.
  package func erase(_ reached: SQL) -> SQL {
    """
    WITH reached AS MATERIALIZED (
      \(reached)
    ), emptied AS (
      DELETE FROM lethe.hold AS h USING reached AS q
      WHERE h.hold_id = q.hold_id AND q.set_to = '{}' RETURNING h.*, q.event_id
    ), \(closed("emptied", as: "erased", event: "x.event_id"))
    UPDATE lethe.hold AS h SET former = q.former, set_to = q.set_to
    FROM reached AS q WHERE h.hold_id = q.hold_id AND q.set_to <> '{}'
    """
  }

  /// The CTE `closed`: adds a record of each hold that has ended.
  private func closed(_ holds: SQL, as outcome: String, event: SQL) -> SQL {
    """
    closed AS (
    INSERT INTO lethe.closed_hold
      (hold_id, table_name, row_key, row_type, row_id, held_at, outcome, type, id, job_id)
    SELECT x.hold_id, x.table_name, x.row_key, x.row_type, x.row_id, x.held_at, \(literal: outcome),
           \(origin.typeSQL), \(event),
           \(origin.jobID)::bigint
    FROM \(holds) AS x
    )
    """
  }

  /// A query of the hold of a row, for a lateral join or EXISTS. It returns at most one row.
  ///
  /// OFFSET makes PostgreSQL look up the hold in the index for each row. A join could become a scan of all holds for
  /// each batch, because the server has no statistics yet about the many holds that one run adds.
  /// - Parameter rowKey: the row's `lethe.hold.row_key`.
  package static func hold(of rowKey: SQL, in table: String) -> SQL {
    """
    SELECT * FROM lethe.hold
    WHERE table_name = \(table)::text AND row_key = \(rowKey) LIMIT 1 OFFSET 0
    """
  }
}
