public import PostgreSQL
public import Vocabulary

/// A tombstone that nobody but its own transaction sees: a guard is proven with it, and the transaction is
/// rolled back.
public enum ThrowAwayTombstone {
  /// - Returns: false if the ID has a tombstone already; then nothing was made.
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
