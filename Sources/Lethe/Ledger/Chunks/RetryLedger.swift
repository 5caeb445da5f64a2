public import PostgreSQL
import Vocabulary

/// The records of a retry of quarantined lines. A chunk without new events stays `applied`. A chunk with new events
/// goes back to `collected`, and its run is unfinished until these events are applied.
extension ChunkLedger {
  public struct OpenLine: Sendable {
    public let quarantineID: Int64
    public let raw: [UInt8]
  }

  private static let linesPerStatement: Int64 = 200

  /// The next open lines of a chunk, in order. No other process can resolve them before the transaction ends.
  public func openLines(
    of chunk: Chunk, after: Int64, on transaction: Transaction
  ) async throws -> [OpenLine] {
    try await transaction.query(
      """
      SELECT quarantine_id, raw FROM lethe.quarantine
      WHERE chunk_id = \(chunk.id) AND resolved_at IS NULL AND quarantine_id > \(after)
      ORDER BY quarantine_id LIMIT \(Self.linesPerStatement) FOR UPDATE
      """
    ).rows(as: Int64.self, [UInt8].self).map { OpenLine(quarantineID: $0.0, raw: $0.1) }
  }

  /// The events of a chunk that the warehouse refused in the current transaction.
  public func refusalsOfThisTransaction(of chunk: Chunk) async throws -> [Refusal] {
    try await connection.query(
      """
      SELECT id, why, remedy FROM lethe.refusal
      WHERE chunk_id = \(chunk.id) AND resolved_at IS NULL AND refused_at >= now() ORDER BY id
      """
    ).rows(as: Int64.self, String.self, String.self)
      .map { Refusal(id: $0.0, why: $0.1, remedy: $0.2) }
  }

  /// Moves an applied chunk back to `collected` after events were added to `lethe.collected`. Marks the events that
  /// newer answers supersede. The other events wait to be applied. The limits are checked again, even if the chunk was
  /// approved before.
  ///
  /// - Parameter stored: finds the IDs that have rows in the chunk's dataset.
  /// - Returns: the number of superseded events.
  public func chunkReopened(
    _ chunk: Chunk, jobID: Int64, events: Int, stored: StoredIDs, on transaction: Transaction
  ) async throws -> Int {
    try await markSuperseded(jobID: jobID, of: chunk, stored: stored, on: transaction)
    try await ChunkQueries.guarded(
      transaction, chunk.label,
      ChunkTransition.quarantineRead.update(
        of: chunk, heldBy: nil,
        setting: """
          applied_through = first_id - 1, events = events + \(events), approved_at = NULL,
          stopped_reason = NULL, lease = \(lease.token)
          """))
    try await ChunkQueries.guarded(
      transaction, "run \(chunk.runID)",
      """
      UPDATE lethe.run SET status = \(run: .running), finished_at = NULL, lease = \(lease.token)
      WHERE run_id = \(chunk.runID) AND (status <> \(run: .failed) OR NOT is_given_up) \(RunLedger.takeoverMarker)
      """)
    return try await transaction.query(
      """
      SELECT count(*) FROM lethe.collected WHERE chunk_id = \(chunk.id) AND superseded_by IS NOT NULL
      """
    ).onlyRow(as: Int.self)
  }
}
