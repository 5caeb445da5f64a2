public import PostgreSQL
public import Vocabulary

/// A tombstone that tests an ingest guard. Only its own transaction sees the tombstone, and that transaction
/// is rolled back.
public enum ProbeTombstone {
  /// - Returns: false if the ID already has a tombstone. Then no tombstone is created.
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
