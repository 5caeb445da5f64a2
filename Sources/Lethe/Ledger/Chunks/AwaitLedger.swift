import CrashPoints
import PostgreSQL
import Vocabulary

/// The records of await, for the step from `uploaded` to `complete`.
extension ChunkLedger {
  /// Records that the job is complete at the API.
  public func jobCompleted(_ attempt: Attempt, of chunk: Chunk) async throws {
    try await connection.withTransaction(recording: .jobCompleted) { transaction in
      try await transaction.executeOne(
        """
        UPDATE lethe.job SET status = \(JobStatus.complete.description), completed_at = clock_timestamp()
        WHERE job_id = \(attempt.jobID) AND ended_at IS NULL
        """)
      try await make(.jobCompleted, of: chunk, on: transaction)
    }
  }

  /// The time since the upload was recorded. Nil if it was not recorded.
  public func secondsSinceUpload(_ attempt: Attempt) async throws -> Double? {
    try await connection.query(
      """
      SELECT extract(epoch FROM clock_timestamp() - uploaded_at)::float8
      FROM lethe.job WHERE job_id = \(attempt.jobID)
      """
    ).onlyRow(as: Double?.self)
  }
}
