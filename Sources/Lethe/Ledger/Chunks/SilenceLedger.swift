public import PostgreSQL

extension ChunkLedger {
  /// Records whether a result says by silence that IDs are clean. Never changed afterwards; what counts
  /// for one ID is `lethe.speaks_by_silence`.
  public func silenceDecided(
    isSpoken: Bool, of attempt: Attempt, on transaction: Transaction
  ) async throws {
    try await transaction.executeOne(
      """
      UPDATE lethe.job SET silence = \(isSpoken ? "spoken" : "none")::lethe.silence
      WHERE job_id = \(attempt.jobID) AND silence IS NULL AND ended_at IS NULL
      """)
  }
}
