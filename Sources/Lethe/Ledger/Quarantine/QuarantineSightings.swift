public import PostgreSQL
import Vocabulary

/// A line that appears again in every run stays one open line. An answer about its ID resolves the line.
extension ChunkLedger {
  /// Keeps the `RefusedLines`. If the quarantine already has an open line of the dataset with the same ID, action,
  /// reason and error, no line is added. Instead, the counter of the open line is increased, and the line is assigned
  /// to the newest job whose result contains it. A line is compared by its bytes if it has no readable ID, or if
  /// PostgreSQL cannot read it as a JSON object.
  ///
  /// - Returns: how many lines of the result must not be acted on.
  public func keepRefusedLines(
    of attempt: Attempt, _ chunk: Chunk, on transaction: Transaction
  ) async throws -> Int {
    let lines = try await transaction.query(
      "SELECT count(*) FROM lethe_scanned"
    ).onlyRow(as: Int.self)
    guard lines > 0 else { return 0 }
    _ = try await transaction.query(
      """
      CREATE TEMP TABLE lethe_kept ON COMMIT DROP AS
      SELECT DISTINCT ON (identity) line, raw, why, id, in_chunk, identity
      FROM (SELECT s.*, lethe.line_identity(\(chunk.pipeline), \(chunk.dataset), s.id, s.raw) AS identity
            FROM lethe_scanned AS s) AS scanned
      ORDER BY identity, line
      """)
    try await transaction.execute(
      """
      UPDATE lethe.quarantine AS q SET seen = q.seen + 1, last_seen_at = clock_timestamp()
      FROM lethe_kept AS k WHERE q.identity = k.identity AND q.resolved_at IS NULL
      """)
    try await transaction.execute(
      """
      UPDATE lethe.quarantine AS q
      SET chunk_id = \(chunk.id), job_id = \(attempt.jobID), line = k.line, raw = k.raw, why = k.why,
        id = k.id,
          in_chunk = k.in_chunk
      FROM lethe_kept AS k, lethe.job AS former, lethe.job AS newer
      WHERE q.identity = k.identity AND q.resolved_at IS NULL
        AND former.job_id = q.job_id AND newer.job_id = \(attempt.jobID)
        AND (newer.asked_at, newer.job_id) > (former.asked_at, former.job_id)
      """)
    try await transaction.execute(
      """
      INSERT INTO lethe.quarantine (chunk_id, job_id, line, raw, why, id, in_chunk, identity)
      SELECT \(chunk.id), \(attempt.jobID), line, raw, why, id, in_chunk, identity FROM lethe_kept AS k
      WHERE NOT EXISTS (SELECT FROM lethe.quarantine AS q
                        WHERE q.identity = k.identity AND q.resolved_at IS NULL)
      ORDER BY line
      """)
    return lines
  }

  /// Resolves older open lines about IDs for which the result of `attempt` has an answer: an event, or silence that
  /// covers the ID. An ID with a line that must not be acted on has no answer.
  ///
  /// - Parameter containing: returns those of the given IDs that were in the chunk.
  public func linesAnswered(
    by attempt: Attempt, of chunk: Chunk, containing: ([Int64]) throws -> [Int64],
    on transaction: Transaction
  ) async throws {
    var after = chunk.firstID - 1
    while true {
      let ids = try await transaction.query(
        """
        SELECT DISTINCT q.id FROM lethe.quarantine AS q JOIN lethe.chunk AS c USING (chunk_id)
        JOIN lethe.run AS r USING (run_id)
        WHERE q.resolved_at IS NULL AND q.id > \(after) AND q.id <= \(chunk.lastID)
          AND q.job_id <> \(attempt.jobID)
          AND r.pipeline = \(chunk.pipeline) AND c.dataset = \(chunk.dataset)
            AND c.type = \(chunk.type.rawValue)::lethe.job_type
        ORDER BY q.id LIMIT \(Self.idsPerStatement)
        """
      ).rows(as: Int64.self)
      guard let last = ids.last else { return }
      after = last
      try await transaction.execute(
        """
        UPDATE lethe.quarantine AS q
        SET resolved_at = clock_timestamp(), resolution = 'answered',
            note = 'job ' || coalesce(newer.api_id, newer.job_id::text) || ' has answered about the ID'
        FROM lethe.chunk AS c, lethe.run AS r, lethe.job AS former, lethe.job AS newer
        WHERE q.resolved_at IS NULL AND q.id = ANY (\(try containing(ids))::bigint[])
          AND c.chunk_id = q.chunk_id
          AND r.run_id = c.run_id AND former.job_id = q.job_id AND newer.job_id = \(attempt.jobID)
          AND r.pipeline = \(chunk.pipeline) AND c.dataset = \(chunk.dataset)
            AND c.type = \(chunk.type.rawValue)::lethe.job_type
          AND (newer.asked_at, newer.job_id) > (former.asked_at, former.job_id)
          AND NOT EXISTS (SELECT FROM lethe.unspoken AS u WHERE u.job_id = \(attempt.jobID) AND u.id = q.id)
          AND (newer.silence = 'spoken'
               OR EXISTS (SELECT FROM lethe.collected AS s
                          WHERE s.chunk_id = \(chunk.id) AND s.id = q.id AND s.reason <> 'clean'))
        """)
    }
  }
}
