import CrashPoints
internal import Definitions
public import PostgreSQL
import Vocabulary

/// The records of apply, for the step from `collected` to `applied`. The record of a batch is written in the same
/// transaction as the rows that the batch changes.
extension ChunkLedger {
  /// `lethe.collected` is truncated only if it is larger. Otherwise, deleting rows is faster than creating new files.
  private static let truncatedBytesMin: Int64 = 1 << 20

  /// The number of a chunk's events with one reason.
  public struct EventCounts: Sendable, Equatable {
    /// The label of `lethe.reason`.
    public let reason: String
    public let events: Int
    /// The number of events that no newer answer has superseded.
    public let current: Int
    /// The number of events that end a protection.
    public let restoring: Int
    /// The number of events that are partly applied.
    public let partlyApplied: Int
  }

  /// The numbers of a chunk's collected events by reason.
  /// - Throws: `LedgerError` if the chunk had events and they are missing. This can happen after a restore from a dump.
  ///   If pg_dump waited for a lock while `lethe.collected` was truncated, the dump contains that table without rows,
  ///   but the chunk's row from before.
  public func eventCounts(of chunk: Chunk) async throws -> [EventCounts] {
    let counts = try await connection.query(
      """
      SELECT reason::text, count(*) AS events, count(*) - count(superseded_by) AS current,
             count(*) FILTER (WHERE restores) AS restoring, count(changed) AS partly_applied
      FROM lethe.collected WHERE chunk_id = \(chunk.id) GROUP BY reason
      """
    ).rows.map { row in
      try EventCounts(
        reason: row["reason"], events: row["events"], current: row["current"],
        restoring: row["restoring"], partlyApplied: row["partly_applied"])
    }
    if counts.isEmpty {
      let had = try await connection.query(
        """
        SELECT events > (SELECT count(*) FROM lethe.refusal AS f
                         WHERE f.chunk_id = c.chunk_id AND f.resolution IS DISTINCT FROM 'retried'
                           AND f.reason <> 'clean')
                      + (SELECT count(*) FROM lethe.event AS e
                         WHERE e.chunk_id = c.chunk_id AND e.cause_id IS NULL AND e.reason <> 'clean')
                      + (SELECT coalesce(sum(t.events), 0) FROM lethe.trace AS t
                         WHERE t.chunk_id = c.chunk_id AND t.reason <> 'clean')
        FROM lethe.chunk AS c WHERE chunk_id = \(chunk.id) AND state = \(state: .collected)
        """
      ).firstRow(as: Bool.self)
      if had == true {
        throw LedgerError(
          code: .unreadable,
          message: "\(chunk.label): its collected events are missing in the ledger",
          remedy: "do nothing: the next lethe run asks about its IDs again")
      }
    }
    return counts
  }

  /// The next events of a chunk, for one batch.
  public struct BatchExtent: Sendable {
    /// The ID of the last event.
    public let through: Int64
    /// The labels of `lethe.reason` that the events have. The set can contain further labels.
    public let reasons: Set<String>
    /// False only if it is known that no event ends a protection.
    public let restores: Bool
    /// False only if it is known that no event is partly applied.
    public let isPartlyApplied: Bool
  }

  /// The batch after `through`. Nil if no event is left.
  /// - Parameters:
  ///   - events: the maximum number of events. Nil for all events.
  ///   - counts: the chunk's counts, which are used for each batch. If it is nil, the events of the batch are read.
  public func nextBatch(
    of chunk: Chunk, after through: Int64, events: Int?, assuming counts: [EventCounts]?,
    on session: some Session
  ) async throws -> BatchExtent? {
    let next: SQL = """
      SELECT id, reason, restores, changed FROM lethe.collected
      WHERE chunk_id = \(chunk.id) AND id > \(through) ORDER BY id LIMIT \(events)
      """
    if let counts {
      return try await session.run("SELECT max(id) FROM (\(next)) AS batch")
        .onlyRow(as: Int64?.self).map {
          BatchExtent(
            through: $0, reasons: Set(counts.map(\.reason)),
            restores: counts.contains { $0.restoring > 0 },
            isPartlyApplied: counts.contains { $0.partlyApplied > 0 })
        }
    }
    let rows = try await session.run(
      """
      SELECT reason::text, max(id), bool_or(restores), bool_or(changed IS NOT NULL)
      FROM (\(next)) AS batch GROUP BY reason
      """
    ).rows(as: String.self, Int64.self, Bool.self, Bool.self)
    guard let last = rows.map(\.1).max() else { return nil }
    return BatchExtent(
      through: last, reasons: Set(rows.map(\.0)), restores: rows.contains { $0.2 },
      isPartlyApplied: rows.contains { $0.3 })
  }

  /// The middle ID of the events above `after`, up to and including `through`. Nil if there are fewer than two events.
  public func middle(
    of chunk: Chunk, after: Int64, through: Int64, on session: some Session
  ) async throws -> Int64? {
    try await session.query(
      """
      SELECT max(id) FROM (
        SELECT id, row_number() OVER (ORDER BY id) AS place, count(*) OVER () AS events
        FROM lethe.collected WHERE chunk_id = \(chunk.id) AND id > \(after) AND id <= \(through)
      ) AS batch WHERE place <= events / 2
      """
    ).onlyRow(as: Int64?.self)
  }

  /// Whether event records might have been pruned: whether the chain has a record of any prune, of event records or of
  /// quarantined lines. If so, the records of old edits can be missing, although their traces exist.
  public func hasPrunedRecords() async throws -> Bool {
    try await connection.query("SELECT EXISTS (SELECT FROM lethe.seal WHERE kind = 'prune')")
      .onlyRow(as: Bool.self)
  }

  /// The number of the chunk's recorded batches.
  public func batches(of chunk: Chunk) async throws -> Int {
    try await connection.query(
      "SELECT coalesce(max(number), 0) FROM lethe.batch WHERE chunk_id = \(chunk.id)"
    ).onlyRow(as: Int.self)
  }

  /// The snapshot and the cluster of a chunk's export. Row versions are compared with them.
  public struct ExportMoment: Sendable {
    /// The snapshot of the export, in the format of `pg_current_snapshot()`. Nil if it was not recorded.
    public let snapshot: String?
    /// The cluster of the snapshot's transaction IDs. Nil if it is unknown.
    public let cluster: Int64?
    /// The current cluster. Nil if it is unknown.
    public let clusterNow: Int64?
  }

  public func exportMoment(of chunk: Chunk) async throws -> ExportMoment {
    let row = try await connection.query(
      """
      SELECT exported_snapshot::text, exported_cluster, lethe.cluster()
      FROM lethe.chunk WHERE chunk_id = \(chunk.id)
      """
    ).onlyRow(as: String?.self, Int64?.self, Int64?.self)
    return ExportMoment(snapshot: row.0, cluster: row.1, clusterNow: row.2)
  }

  /// Sets the chunk's position to `through`, and takes the chunk's lease for this process. Only for a transaction that
  /// is rolled back.
  public func setPosition(
    _ chunk: Chunk, after through: Int64, on transaction: Transaction
  ) async throws {
    try await transaction.executeOne(
      """
      UPDATE lethe.chunk SET lease = \(lease.token), applied_through = \(through)
      WHERE chunk_id = \(chunk.id)
      """
    )
  }

  /// Locks the chunk until the transaction ends. Until then, no other process changes the set of the chunk's events.
  public func lockChunk(_ chunk: Chunk, on transaction: Transaction) async throws {
    try await transaction.execute(
      "SELECT FROM lethe.chunk WHERE chunk_id = \(chunk.id) FOR NO KEY UPDATE")
  }

  /// The digest of a batch's event records and traces: the number of event records and traced events, and the hash that
  /// `lethe.event_digest` computes.
  public struct EventDigest: Sendable {
    public let records: Int
    public let sha256: [UInt8]

    public init(records: Int, sha256: [UInt8]) {
      self.records = records
      self.sha256 = sha256
    }
  }

  /// Moves the chunk's position from `after` to `through`, and records the batch with a hash of its event records. For
  /// a part of an event, the position does not move.
  ///
  /// - Parameter digest: the digest of the records, if one statement wrote all of them. With nil, the ledger reads the
  ///   records and computes the digest.
  public func batchApplied(
    of chunk: Chunk, number: Int, after: Int64, through: Int64, digest: EventDigest? = nil,
    on transaction: Transaction
  ) async throws {
    let digest =
      if let digest { digest } else {
        try await eventDigest(of: chunk, batch: number, on: transaction)
      }
    try await ChunkQueries.guarded(
      transaction, chunk.label,
      """
      WITH moved AS (
        UPDATE lethe.chunk SET applied_through = \(through)
        WHERE chunk_id = \(chunk.id) AND lease = \(lease.token) AND state = \(state: .collected)
          AND applied_through = \(after)
        RETURNING chunk_id
      )
      INSERT INTO lethe.batch (chunk_id, number, after_id, through_id, records, sha256)
      SELECT chunk_id, \(number), \(after), \(through), \(digest.records), \(digest.sha256) FROM moved
      """)
  }

  private func eventDigest(
    of chunk: Chunk, batch number: Int, on transaction: Transaction
  ) async throws -> EventDigest {
    let (records, sha256) = try await transaction.query(
      "SELECT records, sha256 FROM lethe.event_digest(\(chunk.id), \(number)::integer)"
    ).onlyRow(as: Int.self, [UInt8].self)
    return EventDigest(records: records, sha256: sha256)
  }

  /// Ends the chunk after all its events are applied. It records the key ranges that were checked, and seals the job's
  /// record. It deletes the collected events, because each of them has a record or a trace now.
  public func chunkApplied(
    _ chunk: Chunk, after through: Int64, jobID: Int64, on transaction: Transaction
  ) async throws {
    try await ChunkQueries.guarded(
      transaction, chunk.label,
      ChunkTransition.applied.update(
        of: chunk, heldBy: lease, setting: "applied_through = last_id, stopped_reason = NULL",
        where: "applied_through = \(through)"))
    try await rangesChecked(of: chunk, jobID: jobID, on: transaction)
    let isAlone = try await isOnlyChunkInCollected(chunk, on: transaction)
    if !isAlone { try await deleteCollected(of: chunk, on: transaction) }
    // This statement comes late, because it locks the chain until the transaction ends.
    try await transaction.execute(
      "SELECT lethe.seal('job', \(jobID), \(chunk.id), lethe.job_content(\(jobID)))")
    // This statement comes last, so that no other process waits for `lethe.collected` while this process waits for the
    // chain.
    if isAlone { try await emptyCollected(of: chunk, on: transaction) }
  }

  private func deleteCollected(of chunk: Chunk, on transaction: Transaction) async throws {
    try await transaction.execute(
      "DELETE FROM lethe.collected WHERE chunk_id = \(chunk.id)")
  }

  /// Whether `lethe.collected` contains only this chunk's events and is large enough to be truncated, and this role has
  /// the privilege.
  private func isOnlyChunkInCollected(
    _ chunk: Chunk, on transaction: Transaction
  ) async throws -> Bool {
    try await transaction.query(
      """
      SELECT (SELECT min(chunk_id) = \(chunk.id) AND max(chunk_id) = \(chunk.id)
        FROM lethe.collected) IS TRUE
         AND pg_relation_size('lethe.collected') > \(Self.truncatedBytesMin)
         AND has_table_privilege('lethe.collected', 'TRUNCATE')
      """
    ).onlyRow(as: Bool.self)
  }

  /// Truncates `lethe.collected`, unless other processes use it. Deleting the rows would take 5 % of the time that
  /// applying the events takes, and would leave all rows for VACUUM.
  private func emptyCollected(of chunk: Chunk, on transaction: Transaction) async throws {
    if try await lockCollectedWithoutWaiting(on: transaction),
      try await isOnlyChunkInCollected(chunk, on: transaction)
    {
      try await transaction.execute("TRUNCATE lethe.collected")
    } else {
      try await deleteCollected(of: chunk, on: transaction)
    }
  }

  /// Locks `lethe.collected` without waiting.
  /// - Returns: false if other processes use it.
  private func lockCollectedWithoutWaiting(on transaction: Transaction) async throws -> Bool {
    try await transaction.execute("SAVEPOINT before_lock")
    do {
      try await transaction.execute("LOCK TABLE lethe.collected IN ACCESS EXCLUSIVE MODE NOWAIT")
      try await transaction.execute("RELEASE SAVEPOINT before_lock")
      return true
    } catch let error as PostgreSQLError where error.state == .lockNotAvailable {
      try await transaction.execute("ROLLBACK TO SAVEPOINT before_lock")
      return false
    }
  }

  /// The job whose result contains a chunk's events.
  public struct CollectedJob: Sendable {
    public let id: Int64
    /// The time when the API created the job, in PostgreSQL's format.
    public let askedAt: String
  }

  public func collectedJob(of chunk: Chunk) async throws -> CollectedJob {
    let row = try await connection.query(
      """
      SELECT job_id, asked_at::text FROM lethe.job
      WHERE chunk_id = \(chunk.id) AND result_sha256 IS NOT NULL
      """
    ).onlyRow(as: Int64.self, String.self)
    return CollectedJob(id: row.0, askedAt: row.1)
  }

  /// Records that a limit has stopped the chunk before any row was changed.
  public func chunkStopped(_ chunk: Chunk, why: String) async throws {
    try await ChunkQueries.guarded(
      connection, chunk.label, recording: .chunkStopped,
      """
      UPDATE lethe.chunk SET stopped_reason = \(prose: why)
      WHERE chunk_id = \(chunk.id) AND lease = \(lease.token) AND state = \(state: .collected)
      """)
  }

  /// The number of the warehouse's rows that were changed or restored for the chunk so far, in all tables together.
  public func rowsChanged(of chunk: Chunk) async throws -> Int {
    try await connection.query(
      "SELECT coalesce(sum(rows), 0)::bigint FROM lethe.change WHERE chunk_id = \(chunk.id)"
    ).onlyRow(as: Int.self)
  }

  /// The numbers of rows that a run has redacted so far, by reason, for its limits. Restores do not count. Chunks that
  /// an operator has approved do not count, either.
  public func rowsRedactedWithoutApproval(in runID: Int64) async throws -> [String: Int] {
    let rows = try await connection.query(
      """
      SELECT reason::text, sum(rows)::bigint
      FROM lethe.change JOIN lethe.chunk USING (chunk_id)
      WHERE run_id = \(runID)
        AND action = ANY (\(ActionVocabulary.current.redactingWords)::lethe.action[])
        AND approved_at IS NULL
      GROUP BY reason
      """
    ).rows(as: String.self, Int.self)
    return Dictionary(uniqueKeysWithValues: rows.map { ($0.0, $0.1) })
  }
}
