import PostgreSQL

/// The coverage: the time when each ID of a dataset was last checked, by key ranges that do not overlap.
extension ChunkLedger {
  /// Records that the chunk's key range was checked, except for IDs without an answer: the result has no event for
  /// them, and its silence does not cover them. Such an ID keeps the time of its last answer. If the result's silence
  /// has no meaning for any ID, nothing is recorded, because it is unknown which IDs have no answer. The ranges replace
  /// overlapping older ranges, but not newer ranges.
  func rangesChecked(of chunk: Chunk, jobID: Int64, on transaction: Transaction) async throws {
    // The lock is needed because another process can change ranges of the same dataset at the same time.
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
