import PostgreSQL

/// When each ID of a dataset was last checked, by key ranges.
extension ChunkLedger {
  /// Notes the key ranges that a chunk's result has answered for, all but the IDs from which its silence
  /// was taken. An ID that has no answer this time keeps the time of its last one.
  func rangesChecked(of chunk: Chunk, jobID: Int64, on transaction: Transaction) async throws {
    guard
      try await transaction.query(
        "SELECT EXISTS (SELECT FROM lethe.answered_ranges($1))", .integer(jobID)
      ).onlyRow(as: Bool.self)
    else { return }
    try await transaction.execute(
      """
      WITH replaced AS (
        DELETE FROM lethe.coverage AS o USING lethe.chunk AS c
        WHERE c.chunk_id = $1 AND o.pipeline = $2 AND o.dataset = c.dataset
          AND o.first_id BETWEEN c.first_id AND c.last_id AND o.last_id <= c.last_id
          AND o.checked_at <= c.completed_at
        RETURNING o.first_id, o.last_id, o.checked_at, o.chunk_id
      )
      INSERT INTO lethe.coverage (pipeline, dataset, first_id, last_id, ids, checked_at, chunk_id)
      SELECT DISTINCT ON (u.id) $2, $4, u.id, u.id, 1, r.checked_at, r.chunk_id
      FROM replaced AS r JOIN lethe.unanswered($3) AS u ON u.id BETWEEN r.first_id AND r.last_id
      ORDER BY u.id, r.checked_at DESC
      ON CONFLICT (pipeline, dataset, first_id) DO NOTHING
      """, .integer(chunk.id), .text(chunk.pipeline), .integer(jobID), .text(chunk.dataset))
    try await transaction.execute(
      """
      INSERT INTO lethe.coverage AS o (pipeline, dataset, first_id, last_id, ids, checked_at, chunk_id)
      SELECT $2, c.dataset, a.first_id, a.last_id, a.ids, c.completed_at, c.chunk_id
      FROM lethe.chunk AS c, lethe.answered_ranges($3) AS a WHERE c.chunk_id = $1
      ON CONFLICT (pipeline, dataset, first_id) DO UPDATE
      SET last_id = excluded.last_id, ids = excluded.ids, checked_at = excluded.checked_at,
          chunk_id = excluded.chunk_id
      WHERE o.checked_at <= excluded.checked_at
      """, .integer(chunk.id), .text(chunk.pipeline), .integer(jobID))
  }
}
