public import PostgreSQL
public import Vocabulary

/// A tombstone that tests an ingest guard. Only its own transaction sees it, and that is rolled back.
public enum ProbeTombstone {
  /// - Returns: false if the ID already has a tombstone; then none was made.
  @Sendable
  public static func make(
    _ type: JobType, _ id: Int64, on transaction: Transaction
  ) async throws -> Bool {
    try await transaction.execute(
      """
      INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
      VALUES (\(type.rawValue)::lethe.job_type, \(id), 'deleted', 0, now()) ON CONFLICT DO NOTHING
      """) == 1
  }
}
