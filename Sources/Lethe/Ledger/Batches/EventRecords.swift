internal import SQLText

/// Writes a batch's event records, traces and tombstones in one statement. A data-modifying CTE is cheaper than a
/// separate statement.
struct EventRecords {
  let origin: BatchOrigin
  let answers: BatchLedger.Answers

  /// The statement for a range's events.
  /// - Parameters:
  ///   - last: a change that the statement also makes. The statement itself counts the rows that are changed.
  ///   - hasTouched: whether there are rows in `lethe_touched`.
  /// - Returns: a query of one row with `events`, the number of events, and `sha256`, the digest of their records and
  ///   traces.
  func statement(
    _ range: EventRange, making last: BatchLedger.LastChange?, hasTouched: Bool
  ) -> SQL {
    let isCounted = hasTouched || range.mayBePartlyApplied
    var ctes: [SQL] = []
    if let last {
      let columns: [SQL] = isCounted ? [] : ["created_at", "redacted_at"]
      ctes.append(last.changed(columns))
      ctes += totalsCTEs(of: last, isAll: !hasTouched)
    }
    let source =
      if isCounted {
        countedSource(range, making: last)
      } else if let last {
        uncountedSource(range, making: last)
      } else {
        untouchedSource(range)
      }
    ctes.append(source.cte)
    ctes += [recordsCTE(range, of: source), tracesCTE(range)]
    ctes += tombstoneCTE(range)
    let bytes = recordBytes(range, of: source)
    // Each ID has one record, and `source` is in the order of the IDs. So the hash does not depend on the plan.
    return """
      WITH \(ctes.joined(separator: ", "))
      SELECT events, CASE WHEN traced IS NULL THEN recorded ELSE sha256(recorded || traced) END AS sha256
      FROM (
        SELECT count(*) AS events,
               sha256(coalesce(pg_catalog.string_agg(\(bytes), '\\x0a'::bytea) FILTER (WHERE NOT s.is_repeated), ''))
                 AS recorded,
               (SELECT pg_catalog.string_agg(t.bytes, ''::bytea ORDER BY t.reason) FROM traces AS t) AS traced
        FROM source AS s
      ) AS written
      """
  }

  /// Counts the rows that `last` has changed, by reason.
  /// - Parameter isAll: whether only `last` has changed rows. If so, these counts are the batch's totals.
  private func totalsCTEs(
    of last: BatchLedger.LastChange, isAll: Bool
  ) -> [SQL] {
    let table: SQL = "\(last.table)::text"
    var ctes: [SQL] = [
      "totals AS (SELECT reason, count(*) AS rows FROM changed GROUP BY reason)",
      """
      touched AS (
      INSERT INTO lethe_touched (action, table_name, reason, rows)
      SELECT \(last.action)::lethe.action, \(table), reason, rows FROM totals
      )
      """,
    ]
    if isAll {
      ctes.append(
        """
        added AS (
        INSERT INTO lethe.change (chunk_id, table_name, action, reason, rows)
        SELECT \(origin.chunkID)::bigint,
               \(table), \(last.action)::lethe.action, reason, rows
        FROM totals
        \(BatchLedger.addingToTotals)
        )
        """)
    }
    return ctes
  }

  /// Writes the tombstones. The dataset's action for the event removes the ID's content, so the ID leaves a tombstone
  /// even if its row was missing. ON CONFLICT makes a batch 10 % slower than a join that leaves out existing
  /// tombstones. But ON CONFLICT does not depend on the plan. With a bad plan, the join took ten times as long as the
  /// rest of the statement.
  private func tombstoneCTE(_ range: EventRange) -> [SQL] {
    guard range.mayContain(answers.removing) else { return [] }
    return [
      """
      tombstones AS (
      INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
      SELECT \(origin.typeSQL), id, reason, \(origin.jobID)::bigint, now()
      FROM source
      WHERE superseded_by IS NULL
        AND reason = ANY (\(answers.removing)::lethe.reason[])
      ON CONFLICT (type, id) DO NOTHING
      )
      """
    ]
  }

  private func recordsCTE(
    _ range: EventRange, of source: RecordSource
  ) -> SQL {
    let action = forAnswer(range) { _, action, _ in action }
    return """
      records AS (
      INSERT INTO lethe.event
        (id, type, reason, action, chunk_id, job_id, created_at, redacted_at, applied_at, changed,
         superseded_by, batch)
      SELECT s.id, \(origin.typeSQL), s.reason, \(action),
             \(origin.chunkID)::bigint,
             \(origin.jobID)::bigint, s.created_at, s.redacted_at, now(),
             \(source.changed), s.superseded_by, \(origin.number)::integer
      FROM source AS s WHERE NOT s.is_repeated
      )
      """
  }

  /// The source of the records and traces. The CTE `source` is in the order of the IDs. It has id, reason, created_at,
  /// redacted_at, superseded_by, and is_repeated, which is true for events that get a trace.
  private struct RecordSource {
    let cte: SQL
    /// SQL: the record's `changed`, for a row `s`.
    let changed: SQL
    /// SQL: `lethe.changed_bytes` of `changed`.
    let changedBytes: SQL

    /// - Parameter select: a query of the columns of `source`, and of `changed`.
    init(_ select: SQL) {
      cte = "source AS MATERIALIZED (\n\(select)\nORDER BY id\n)"
      changed = "s.changed"
      changedBytes = "lethe.changed_bytes(s.changed)"
    }

    /// - Parameters:
    ///   - select: a query of the columns of `source`, and of `is_changed`.
    ///   - label: the label of the change that each of these events has made to one row. The values for the label are
    ///     in subqueries, so that they are computed only once and not for each event.
    init(_ select: SQL, changedBy label: SQL) {
      cte = "source AS MATERIALIZED (\n\(select)\nORDER BY id\n)"
      let value: SQL = "pg_catalog.jsonb_build_object(\(label)::text, 1)"
      changed = "CASE WHEN s.is_changed THEN (SELECT \(value)) END"
      changedBytes = """
        CASE WHEN s.is_changed THEN (SELECT lethe.changed_bytes(\(value))) ELSE lethe.changed_bytes(NULL) END
        """
    }
  }

  /// The source for the events for which `changed` has changed one row, and for the other events. Usually there are no
  /// other events. To find that out, two counts are compared, because this is cheaper than a join. The join is a full
  /// join, because PostgreSQL never runs a full join as a nested loop, even if it expects few rows.
  private func uncountedSource(
    _ range: EventRange, making last: BatchLedger.LastChange
  ) -> RecordSource {
    let events = range.all
    return RecordSource(
      """
      SELECT event_id AS id, reason, created_at, redacted_at, NULL::bigint AS superseded_by,
             true AS is_changed, false AS is_repeated
      FROM changed
      UNION ALL
      SELECT s.id, s.reason, s.created_at, s.redacted_at, s.superseded_by, false,
             \(isRepeated(range))
      FROM (SELECT * FROM lethe.collected AS s WHERE \(events)) AS s
      FULL JOIN changed AS c ON c.event_id = s.id
      WHERE c.event_id IS NULL
        AND (SELECT coalesce(sum(rows), 0) FROM totals)
          < (SELECT count(*) FROM lethe.collected AS s WHERE \(events))
      """, changedBy: "\(last.label)")
  }

  /// The bytes that `lethe.event_bytes` would return for a record. This is faster, because the bytes that all events of
  /// a reason share are computed only once.
  private func recordBytes(
    _ range: EventRange, of source: RecordSource
  ) -> SQL {
    let job: SQL = "\(origin.jobID)"
    let head = forAnswer(range) { reason, action, isConstant in
      let head: SQL =
        "lethe.event_head(\(origin.typeSQL), \(reason), \(action), \(job)::bigint, now())"
      return isConstant ? "(SELECT \(head))" : head
    }
    return """
      lethe.event_row(s.id, \(head), s.created_at, s.redacted_at, NULL, s.superseded_by,
        \(source.changedBytes))
      """
  }

  /// A value for each event `s`, by its reason and by the dataset's action for that reason.
  func forAnswer(
    _ range: EventRange,
    _ value: (_ reason: SQL, _ action: SQL, _ isConstant: Bool) -> SQL
  ) -> SQL {
    // The answer about an ID that the result does not name has the reason `clean`, and its action is always `restore`.
    let actions =
      answers.actions.map { (reason: $0.key, action: $0.value) } + [
        (reason: "clean", action: "restore")
      ]
    let cases = actions.filter { range.mayContain([$0.reason]) }.map { reason, action -> SQL in
      let reason: SQL = "\(reason)::lethe.reason"
      let action: SQL = "\(action)::lethe.action"
      return "WHEN \(reason) THEN \(value(reason, action, true))"
    }
    let ignored = value("s.reason", "'ignore'::lethe.action", false)
    guard !cases.isEmpty else { return ignored }
    return """
      CASE CASE WHEN s.superseded_by IS NULL THEN s.reason END
      \(cases.joined(separator: "\n")) ELSE \(ignored) END
      """
  }

  /// The source for events that can have changed any number of rows. The counts are in `lethe_touched`, by event. The
  /// counts of parts applied earlier are stored with the event. The counts of `last` come from the same statement.
  private func countedSource(
    _ range: EventRange, making last: BatchLedger.LastChange?
  ) -> RecordSource {
    let fromLast: SQL =
      last.map {
        """
        UNION ALL
        SELECT event_id, \($0.label)::text, 1 FROM changed
        """ as SQL
      } ?? ""
    return RecordSource(
      """
      SELECT s.id, s.reason, s.created_at, s.redacted_at, s.superseded_by, c.changed,
             c.changed IS NULL AND \(isRepeated(range)) AS is_repeated
      FROM lethe.collected AS s
      LEFT JOIN (
        SELECT id, pg_catalog.jsonb_object_agg(label, rows) AS changed
        FROM (
          SELECT id, label, sum(rows) AS rows
          FROM (
            SELECT id, action || ' ' || table_name AS label, rows FROM lethe_touched
            UNION ALL
            SELECT s.id, key, value::bigint
            FROM lethe.collected AS s, jsonb_each_text(s.changed)
            WHERE \(range.all) AND s.changed IS NOT NULL
            \(fromLast)
          ) AS counted
          GROUP BY id, label
        ) AS labelled
        GROUP BY id
      ) AS c ON c.id = s.id
      WHERE \(range.all)
      """)
  }

  /// The source for events that have changed no row.
  private func untouchedSource(
    _ range: EventRange
  ) -> RecordSource {
    RecordSource(
      """
      SELECT s.id, s.reason, s.created_at, s.redacted_at, s.superseded_by, NULL::jsonb AS changed,
             \(isRepeated(range)) AS is_repeated
      FROM lethe.collected AS s
      WHERE \(range.all)
      """)
  }
}
