public import PostgreSQL
import Vocabulary

/// What collect records, in one transaction with the events themselves. Begins at `complete`, ends at
/// `collected`.
extension ChunkLedger {
  /// What is known of a result that was proven whole.
  public struct ResultFacts: Sendable {
    public let bytes: Int
    public let lines: Int
    /// Of them, those that nobody may act on.
    public let kept: Int
    public let sha256: [UInt8]

    public init(bytes: Int, lines: Int, kept: Int, sha256: [UInt8]) {
      self.bytes = bytes
      self.lines = lines
      self.kept = kept
      self.sha256 = sha256
    }
  }

  /// - Returns: how many events and quarantined lines the chunk has.
  public func resultCollected(
    _ attempt: Attempt, of chunk: Chunk, _ facts: ResultFacts, on transaction: Transaction
  ) async throws -> (events: Int, quarantined: Int) {
    try await transaction.executeOne(
      """
      UPDATE lethe.job
      SET ended_at = clock_timestamp(), result_bytes = \(facts.bytes), result_lines = \(facts.lines),
        result_sha256 = \(facts.sha256)
      WHERE job_id = \(attempt.jobID) AND ended_at IS NULL
      """)
    guard
      let row = try await transaction.query(
        """
        UPDATE lethe.chunk AS c
        SET state = 'collected', collected_at = clock_timestamp(), applied_through = first_id - 1,
            events = (SELECT count(*) FROM lethe.collected AS e
                      WHERE e.chunk_id = c.chunk_id AND e.reason <> 'clean'),
            quarantined = \(facts.kept)
        WHERE chunk_id = \(chunk.id) AND lease = \(lease.token) AND state = 'complete'
        RETURNING events, quarantined
        """
      ).firstRow(as: Int.self, Int.self)
    else { throw LedgerError.leaseLost(chunk.label) }
    return (row.0, row.1)
  }

  /// What apply's plans rest on: the statistics of the events that wait.
  public func refreshStatistics() async throws {
    try await connection.execute("ANALYZE lethe.collected")
  }

  /// The statistics of the holds, where these have become many more since they were looked at last. For
  /// whoever has just committed some: while all that there are belong to a transaction under way,
  /// PostgreSQL would note that the table has pages and no rows, and plan by that.
  public func refreshHoldStatistics() async throws {
    let haveGrown = try await connection.query(
      """
      SELECT EXISTS (SELECT FROM pg_class AS c
                     WHERE c.oid IN ('lethe.hold'::regclass, 'lethe.holder'::regclass)
                       AND pg_relation_size(c.oid) > 1.2 * c.relpages * current_setting('block_size')::bigint)
      """
    ).onlyRow(as: Bool.self)
    if haveGrown { try await connection.execute("ANALYZE lethe.hold, lethe.holder") }
  }
}
