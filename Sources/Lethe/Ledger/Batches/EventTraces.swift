internal import SQLText

/// Writes traces for the events that repeat the newest record that the dataset has of their ID, and have changed
/// nothing.
extension EventRecords {
  /// The condition that an event `s`, which has changed no row, is the same as the newest record that the dataset has
  /// of its ID. If answers repeat, the first answer has a record, and the others have traces.
  ///
  /// Records are looked up only by ID. PostgreSQL might run a join with their chunks in the other direction, and read
  /// all records of all chunks for each event. With `IS TRUE`, PostgreSQL cannot convert the IN condition to a join,
  /// and builds the set of chunks only once.
  func isRepeated(_ range: EventRange) -> SQL {
    let action = forAnswer(range) { _, action, _ in action }
    return """
      (s.superseded_by IS NULL AND coalesce((
        SELECT e.reason = s.reason AND e.action = \(action)
               AND e.created_at IS NOT DISTINCT FROM s.created_at
               AND e.redacted_at IS NOT DISTINCT FROM s.redacted_at
        FROM lethe.event AS e
        WHERE e.id = s.id AND e.type = \(origin.typeSQL)
          AND e.cause_id IS NULL AND e.superseded_by IS NULL
          AND (e.chunk_id IN (
            SELECT ec.chunk_id FROM lethe.chunk AS ec JOIN lethe.run AS er USING (run_id)
            WHERE ec.dataset = \(origin.dataset)
              AND er.pipeline = \(origin.pipeline))) IS TRUE
        ORDER BY e.applied_at DESC LIMIT 1), false))
      """
  }

  /// The CTE `traces`: one trace for each reason, of the repeated events of `source`. It returns reason and bytes. The
  /// bytes become part of the batch's hash.
  func tracesCTE(_ range: EventRange) -> SQL {
    let action = forAnswer(range) { _, action, _ in action }
    // The number of bytes of the largest distance from first_id: half of the number of its hexadecimal digits, rounded
    // up.
    let width: SQL = "(length(to_hex(s.last_id - s.first_id)) + 1) / 2"
    func times(_ column: SQL) -> SQL {
      "CASE WHEN s.action = 'rehydrate' THEN pg_catalog.array_agg(s.\(column) ORDER BY s.id) END"
    }
    return """
      traces AS (
      INSERT INTO lethe.trace AS t
        (chunk_id, batch, type, reason, action, job_id, applied_at, events, first_id, last_id, distances,
         created_at, redacted_at)
      SELECT \(origin.chunkID)::bigint,
             \(origin.number)::integer,
             \(origin.typeSQL), s.reason, s.action,
             \(origin.jobID)::bigint, now(), count(*), s.first_id, s.last_id,
             pg_catalog.string_agg(substr(int8send(s.id - s.first_id), 9 - \(width)), ''::bytea ORDER BY s.id),
             \(times("created_at")), \(times("redacted_at"))
      FROM (
        SELECT s.id, s.reason, s.created_at, s.redacted_at, \(action) AS action,
               min(s.id) OVER w AS first_id, max(s.id) OVER w AS last_id
        FROM source AS s WHERE s.is_repeated WINDOW w AS (PARTITION BY s.reason)
      ) AS s
      GROUP BY s.reason, s.action, s.first_id, s.last_id
      RETURNING t.reason, lethe.trace_bytes(
        t.type, t.reason, t.action, t.job_id, t.applied_at, t.events, t.first_id, t.last_id, t.distances,
        t.created_at, t.redacted_at) AS bytes
      )
      """
  }
}
