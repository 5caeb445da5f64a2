import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// A change and what `lethe_touched` calls it.
struct NumberedChange {
  let number: Int
  let change: Change
}

/// A batch's event records and tombstones.
extension Bookkeeping {
  /// Writes both in one statement; a data-modifying CTE costs less than a statement of its own. In the
  /// same way it makes the change `last`, the rows of which then need no counting by event.
  ///
  /// - Returns: the digest of these records.
  /// - Throws: `ApplyError` if the table of `last` does not take it.
  func recordEvents(
    _ range: EventRange, making last: NumberedChange?, hasTouched: Bool
  ) async throws -> ChunkLedger.EventDigest {
    var bound = BoundStatement()
    var ctes: [String] = []
    if let last {
      ctes.append(last.change.changedCTE(range, context, &bound))
      ctes.append(
        """
        totals AS (
        INSERT INTO lethe_touched (change, reason, rows)
        SELECT \(bound.bind(.integer(Int64(last.number))))::integer, reason, count(*)
        FROM changed GROUP BY reason
        )
        """)
    }
    ctes.append(recordsCTE(range, making: last, hasTouched: hasTouched, &bound))
    ctes += tombstoneCTE(range, &bound)
    // As lethe.event_digest has it. There is one record for an ID.
    let sql = """
      WITH \(ctes.joined(separator: ", "))
      SELECT count(*), sha256(coalesce(string_agg(bytes, '\\x0a'::bytea ORDER BY id), ''))
      FROM records
      """
    do {
      let (records, sha256) = try await transaction.run(sql, bound.parameters)
        .onlyRow(as: Int.self, [UInt8].self)
      return ChunkLedger.EventDigest(records: records, sha256: sha256)
    } catch let error as PostgreSQLError where !error.isTemporary {
      guard let last else { throw error }
      throw ApplyError(error, chunk, "\(last.change.label): ")
    }
  }

  /// The event says that the ID is gone, whether or not its row was still there. ON CONFLICT costs a tenth
  /// of a batch more than leaving out by a join what is there, and rests on no plan: that join was found
  /// to take ten times as long as all the rest where the planner chose badly.
  private func tombstoneCTE(_ range: EventRange, _ bound: inout BoundStatement) -> [String] {
    let reasons = self.reasons { $0.isRemoving }
    guard dataset.tombstones, range.mayHold(reasons) else { return [] }
    let type = bound.bind(.text(dataset.type.rawValue))
    return [
      """
      tombstones AS (
      INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
      SELECT \(type)::lethe.job_type, id, reason, \(bound.bind(.integer(context.jobID)))::bigint, now()
      FROM records
      WHERE superseded_by IS NULL
        AND reason = ANY (\(bound.bind(.texts(reasons)))::lethe.reason[])
      ON CONFLICT (type, id) DO NOTHING
      )
      """
    ]
  }

  private func recordsCTE(
    _ range: EventRange, making last: NumberedChange?, hasTouched: Bool,
    _ bound: inout BoundStatement
  ) -> String {
    let (changed, join) = changedRows(
      range, making: last, isCounted: hasTouched || range.mayBePartlyApplied, &bound)
    let reasons = bound.bind(.texts(dataset.actions.keys.map(\.rawValue) + ["clean"]))
    let actions = bound.bind(.texts(dataset.actions.values.map(\.word) + ["restore"]))
    return """
      records AS (
      INSERT INTO lethe.event
        (id, type, reason, action, chunk_id, job_id, created_at, redacted_at, applied_at, changed,
         superseded_by, batch)
      SELECT s.id, \(bound.bind(.text(dataset.type.rawValue)))::lethe.job_type, s.reason,
             CASE WHEN s.superseded_by IS NULL THEN a.action ELSE 'ignore' END,
             s.chunk_id, \(bound.bind(.integer(context.jobID)))::bigint, s.created_at,
             s.redacted_at, now(), \(changed), s.superseded_by,
             \(bound.bind(.integer(Int64(context.number))))::integer
      FROM lethe.collected AS s
      JOIN unnest(\(reasons)::lethe.reason[], \(actions)::lethe.action[]) AS a (reason, action)
        ON a.reason = s.reason
      \(join)
      WHERE \(bound.range(range))
      RETURNING id, reason, superseded_by,
                lethe.event_bytes(id, type, reason, action, job_id, applied_at, created_at,
                                  redacted_at, cause_id, superseded_by, changed) AS bytes
      )
      """
  }

  /// The rows that an event has changed, for its record, and the join that they come from.
  private func changedRows(
    _ range: EventRange, making last: NumberedChange?, isCounted: Bool,
    _ bound: inout BoundStatement
  ) -> (expression: String, join: String) {
    guard isCounted else {
      guard let last else { return ("NULL::jsonb", "") }
      // One row at most for an event. In a query of its own, the value is made once and not for each.
      return (
        """
        CASE WHEN c.event_id IS NOT NULL
             THEN (SELECT jsonb_build_object(\(bound.bind(.text(last.change.label)))::text, 1)) END
        """, "LEFT JOIN changed AS c ON c.event_id = s.id"
      )
    }
    let fromLast =
      last.map {
        """
        UNION ALL
        SELECT event_id, \(bound.bind(.text($0.change.label)))::text, 1 FROM changed
        """
      } ?? ""
    let join = """
      LEFT JOIN (
        SELECT id, jsonb_object_agg(label, rows) AS changed
        FROM (
          SELECT id, label, sum(rows) AS rows
          FROM (
            SELECT t.id, l.label, t.rows
            FROM lethe_touched AS t
            JOIN unnest(\(bound.bind(.texts(changes.map(\.label))))::text[]) WITH ORDINALITY
              AS l (label, change) ON l.change = t.change
            UNION ALL
            SELECT s.id, key, value::bigint
            FROM lethe.collected AS s, jsonb_each_text(s.changed)
            WHERE \(bound.range(range)) AND s.changed IS NOT NULL
            \(fromLast)
          ) AS counted
          GROUP BY id, label
        ) AS labelled
        GROUP BY id
      ) AS c ON c.id = s.id
      """
    return ("c.changed", join)
  }
}
