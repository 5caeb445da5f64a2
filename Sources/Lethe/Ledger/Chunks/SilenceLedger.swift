public import PostgreSQL

/// Records for which IDs of the chunk the silence of a result is an answer. There are three cases: no ID, all IDs for
/// which the result has no event, or these IDs except the IDs with a line that must not be applied. The decision is
/// made once and stored with the job. Later statements read it, for example with `lethe.speaks_by_silence`.
extension ChunkLedger {
  /// Records the decision. Call it after all `RefusedLines` are written.
  ///
  /// - Parameters:
  ///   - isSpoken: whether the result's silence means that IDs are clean. It is never changed afterwards.
  ///   - idsBelow: returns, for each given ID, the number of the chunk's IDs that are smaller.
  public func silenceDecided(
    isSpoken: Bool, of attempt: Attempt, idsBelow: ([Int64]) throws -> [Int64],
    on transaction: Transaction
  ) async throws {
    try await transaction.executeOne(
      """
      UPDATE lethe.job SET silence = \(isSpoken ? "spoken" : "none")::lethe.silence
      WHERE job_id = \(attempt.jobID) AND silence IS NULL AND ended_at IS NULL
      """)
    let exceptions = try await transaction.execute(
      """
      INSERT INTO lethe.unspoken (job_id, id)
      SELECT DISTINCT \(attempt.jobID)::bigint, id FROM lethe_scanned WHERE in_chunk
      """)
    if exceptions > 0 { try await placeExceptions(of: attempt, idsBelow, transaction) }
  }

  /// Records the positions in the chunk of the exceptions: the IDs with a line that must not be applied. This happens
  /// now, because the chunk's file no longer exists when the coverage is written.
  private func placeExceptions(
    of attempt: Attempt, _ idsBelow: ([Int64]) throws -> [Int64], _ transaction: Transaction
  ) async throws {
    var after: Int64 = 0
    while true {
      let ids = try await transaction.query(
        """
        SELECT id FROM lethe.unspoken WHERE job_id = \(attempt.jobID) AND id > \(after) ORDER BY id
               LIMIT \(Self.idsPerStatement)
        """
      ).rows(as: Int64.self)
      guard let last = ids.last else { return }
      after = last
      try await transaction.execute(
        """
        UPDATE lethe.unspoken AS u SET ids_below = p.ids_below
        FROM unnest(\(ids)::bigint[], \(try idsBelow(ids))::bigint[]) AS p (id, ids_below)
        WHERE u.job_id = \(attempt.jobID) AND u.id = p.id
        """)
    }
  }
}
