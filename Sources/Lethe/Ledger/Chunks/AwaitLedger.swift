import PostgreSQL
import Vocabulary

/// What await records. Begins at `uploaded`, ends at `complete`.
extension ChunkLedger {
  /// The API says that the job is complete.
  public func jobCompleted(_ attempt: Attempt, of chunk: Chunk) async throws {
    try await connection.withTransaction { transaction in
      try await transaction.executeOne(
        """
        UPDATE lethe.job SET status = \(JobStatus.complete.description), completed_at = clock_timestamp()
        WHERE job_id = \(attempt.jobID) AND ended_at IS NULL
        """)
      try await make(.jobCompleted, of: chunk, on: transaction)
    }
  }

  /// How long ago the API was seen to take the chunk's bytes; nil if it was not.
  public func secondsSinceUpload(_ attempt: Attempt) async throws -> Double? {
    try await connection.query(
      """
      SELECT extract(epoch FROM clock_timestamp() - uploaded_at)::float8
      FROM lethe.job WHERE job_id = \(attempt.jobID)
      """
    ).onlyRow(as: Double?.self)
  }
}
