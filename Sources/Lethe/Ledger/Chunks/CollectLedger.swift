public import PostgreSQL
import Vocabulary

/// The records of collect, for the step from `complete` to `collected`. They are written in the same transaction as the
/// events.
extension ChunkLedger {
  /// The facts about a result that was proven complete.
  public struct ResultFacts: Sendable {
    public let bytes: Int
    public let lines: Int
    /// The number of lines that must not be applied.
    public let kept: Int
    public let sha256: [UInt8]

    public init(bytes: Int, lines: Int, kept: Int, sha256: [UInt8]) {
      self.bytes = bytes
      self.lines = lines
      self.kept = kept
      self.sha256 = sha256
    }
  }

  /// Stores the events among the `ScannedLines` as events that wait to be applied, one for each ID. Call it after the
  /// silence of the result is decided.
  public func scannedEventsCollected(
    of attempt: Attempt, _ chunk: Chunk, on transaction: Transaction
  ) async throws {
    let older = OlderHolds(chunk: chunk, jobID: attempt.jobID)
    _ = try await transaction.run(
      """
      INSERT INTO lethe.collected (chunk_id, id, reason, created_at, redacted_at, restores)
      SELECT DISTINCT ON (s.id) \(chunk.id)::bigint, s.id, reason, s.created_at, redacted_at,
             reason = ANY (\(Reason.outweighedByProtected)::lethe.reason[]) AND \(older.hide("s.id"))
               -- Another line about the ID may mean that the ID is protected.
               AND NOT EXISTS (SELECT FROM lethe.unspoken AS u WHERE u.job_id = \(attempt.jobID)
                 AND u.id = s.id)
      FROM lethe_scanned AS s WHERE why IS NULL ORDER BY s.id, line
      """)
  }

  /// Stores a clean answer for each ID of the chunk that Lethe had protected. The result must have no event for the ID,
  /// and its silence must cover the ID.
  ///
  /// - Parameter containing: returns the given IDs that were in the chunk.
  public func cleanIDsCollected(
    of attempt: Attempt, _ chunk: Chunk, containing: ([Int64]) throws -> [Int64],
    on transaction: Transaction
  ) async throws {
    let older = OlderHolds(chunk: chunk, jobID: attempt.jobID)
    var after = chunk.firstID - 1
    while true {
      let candidates = try await older.ids(
        after: after, limit: Int(Self.idsPerStatement), on: transaction)
      guard let last = candidates.last else { return }
      after = last
      try await transaction.execute(
        """
        INSERT INTO lethe.collected (chunk_id, id, reason, restores)
        SELECT \(chunk.id), c.id, 'clean', true
               FROM pg_catalog.unnest(\(try containing(candidates))::bigint[]) AS c (id)
        WHERE EXISTS (SELECT FROM lethe.speaks_by_silence(\(attempt.jobID), c.id))
        ON CONFLICT (chunk_id, id) DO NOTHING
        """)
    }
  }

  /// Records that the result is collected.
  /// - Returns: the number of the chunk's events and of its quarantined lines.
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
    let collected = ChunkTransition.resultCollected.update(
      of: chunk, heldBy: lease,
      setting: """
        applied_through = first_id - 1,
        events = (SELECT count(*) FROM lethe.collected AS e
                  WHERE e.chunk_id = c.chunk_id AND e.reason <> 'clean'),
        quarantined = \(facts.kept)
        """)
    guard
      let row = try await transaction.query("\(collected) RETURNING events, quarantined")
        .firstRow(as: Int.self, Int.self)
    else { throw LedgerError.leaseLost(chunk.label) }
    return (row.0, row.1)
  }

  /// Refreshes the statistics of the events that wait. The plans of apply's statements depend on these statistics.
  public func refreshStatistics() async throws {
    try await connection.execute("ANALYZE lethe.collected")
  }

  /// Refreshes the statistics of the holds if there are many more holds than at the last refresh. Call it after holds
  /// were committed. While all holds belong to an open transaction, PostgreSQL would record that the table has pages
  /// but no rows, and would use these statistics for its plans.
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
