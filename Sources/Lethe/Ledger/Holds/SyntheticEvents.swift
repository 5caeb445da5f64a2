public import PostgreSQL
public import Vocabulary

/// A chunk and events that did not come from the API, for a transaction that is rolled back. They are stored
/// like those of a real chunk, so that apply's own statements find them.
public struct SyntheticEvents: Sendable {
  public let chunkID: Int64
  private let transaction: Transaction

  /// The IDs of the chunk and the run are negative and are not taken from the ledger's sequences. They differ between
  /// concurrent sessions.
  public init(
    dataset: String, of pipeline: String, type: JobType, on transaction: Transaction
  ) async throws {
    self.transaction = transaction
    chunkID = try await transaction.query(
      """
      WITH run AS (
        INSERT INTO lethe.run \(RunLedger.takeoverMarker) (run_id, key, pipeline, definition, work_directory, lease)
        OVERRIDING SYSTEM VALUE
        SELECT -pg_backend_pid(), substr(md5(pg_backend_pid() || clock_timestamp()::text), 1, 12),
          \(pipeline), '{}',
               '', gen_random_uuid()
        RETURNING run_id, lease
      )
      INSERT INTO lethe.chunk
        (chunk_id, run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path, lease)
      OVERRIDING SYSTEM VALUE
      SELECT run_id, run_id, \(dataset), \(type.rawValue)::lethe.job_type, 1, 1, \(literal: Int64.max), 1, 1,
             decode(repeat('00', 32), 'hex'), '', lease
      FROM run
      RETURNING chunk_id
      """
    ).onlyRow(as: Int64.self)
  }

  /// - Parameter reason: a label of `lethe.reason`.
  public func add(id: Int64, reason: String) async throws {
    try await transaction.execute(
      """
      INSERT INTO lethe.collected (chunk_id, id, reason) VALUES (\(chunkID), \(id), \(reason)::lethe.reason)
      ON CONFLICT (chunk_id, id) DO UPDATE SET reason = excluded.reason
      """)
  }
}
