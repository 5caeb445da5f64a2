import PostgreSQL

/// When each ID of a dataset was last checked, by key ranges that do not overlap.
extension ChunkLedger {
  /// Notes the key ranges that a chunk's result has answered for, all but the IDs from which its silence
  /// was taken. They take the place of what they cover of older ranges, and give way to newer ones. An ID
  /// that has no answer this time keeps the time of its last one.
  func rangesChecked(of chunk: Chunk, jobID: Int64, on transaction: Transaction) async throws {
    // Another chunk's ranges may be about to cut the same ones.
    try await transaction.execute(
      """
      SELECT pg_advisory_xact_lock(hashtext('lethe.coverage'),
      hashtext(\("\(chunk.pipeline)/\(chunk.dataset)")))
      """
    )
    try await transaction.execute(
      """
      SELECT lethe.cover(\(chunk.pipeline), c.dataset, c.chunk_id, c.completed_at,
        pg_catalog.array_agg(a.first_id),
                         pg_catalog.array_agg(a.last_id), pg_catalog.array_agg(a.ids))
      FROM lethe.chunk AS c, lethe.answered_ranges(\(jobID)) AS a WHERE c.chunk_id = \(chunk.id)
      GROUP BY c.chunk_id
      """)
  }
}
