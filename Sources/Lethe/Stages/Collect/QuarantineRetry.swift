import Foundation
public import Ledger
public import PostgreSQL
import Results
public import Vocabulary

/// Quarantine → events: reads kept lines of an applied chunk again, as a newer version may know what an
/// older one did not. The result itself is gone by now, and so is the chunk's file.
public struct QuarantineRetry: Sendable {
  private let connection: Connection
  private let ledger: ChunkLedger

  public struct Outcome: Sendable, Equatable {
    /// Lines that are events now, and wait to be applied.
    public let events: Int
    /// Events among them that a newer answer supersedes: they change nothing.
    public let superseded: Int
  }

  public init(connection: Connection, ledger: ChunkLedger) {
    self.connection = connection
    self.ledger = ledger
  }

  /// Reads the lines and takes the chunk back to `collected` if one of them is an event now; else only
  /// notes why not. All of it, or nothing.
  ///
  /// - Parameters:
  ///   - selected: the lines that may be resolved; all if nil. The others are read as well, for they may
  ///     contradict one of these.
  ///   - refused: IDs whose lines stay as they are.
  ///   - reasons: those that the definition of the chunk's run answers to.
  ///   - stored: which IDs the chunk's dataset has rows of.
  public func retry(
    _ chunk: Chunk, selected: Set<Int64>?, besides refused: Set<Int64> = [],
    reasons: Set<Reason>, stored: StoredIDs
  ) async throws -> Outcome {
    let jobID = try await ledger.collectedJob(of: chunk).id
    let outcome = try await connection.withTransaction { transaction in
      try await transaction.runScript(
        """
        CREATE TEMP TABLE lethe_reread (
            quarantine_id bigint PRIMARY KEY, is_selected boolean NOT NULL, id bigint NOT NULL,
            reason lethe.reason NOT NULL, created_at timestamptz, redacted_at timestamptz,
            is_answered boolean NOT NULL, why text
        ) ON COMMIT DROP
        """)
      try await reread(chunk, selected, refused, reasons, transaction)
      try await judge(chunk, transaction)
      let events = try await collect(chunk, jobID, transaction)
      guard events > 0 else { return Outcome(events: 0, superseded: 0) }
      let superseded = try await ledger.chunkReopened(
        chunk, jobID: jobID, events: events, stored: stored, on: transaction)
      return Outcome(events: events, superseded: superseded)
    }
    if outcome.events > 0 { try await ledger.refreshStatistics() }
    return outcome
  }

  /// Lines that are no events today either keep the reason that they have.
  private func reread(
    _ chunk: Chunk, _ selected: Set<Int64>?, _ refused: Set<Int64>, _ reasons: Set<Reason>,
    _ transaction: Transaction
  ) async throws {
    let scanner = LineScanner(type: chunk.type)
    var after: Int64 = 0
    while true {
      let lines = try await ledger.keptLines(of: chunk, after: after, on: transaction)
      guard let last = lines.last else { return }
      after = last.quarantineID
      var rows = BinaryRows()
      for line in lines {
        guard case .event(let event) = line.raw.withUnsafeBytes(scanner.scan) else { continue }
        rows.beginRow(columns: 7)
        rows.append(line.quarantineID)
        let isSelected = selected?.contains(line.quarantineID) ?? true
        rows.append(bool: isSelected && !refused.contains(event.id))
        rows.append(event.id)
        rows.append(text: event.reason.rawValue)
        rows.append(event.createdAt?.microsecondsSince2000)
        rows.append(event.redactedAt?.microsecondsSince2000)
        rows.append(bool: reasons.contains(event.reason))
      }
      let bytes = rows.takeLast()
      try await transaction.withCopyIn(
        """
        COPY lethe_reread
          (quarantine_id, is_selected, id, reason, created_at, redacted_at, is_answered)
        FROM STDIN (FORMAT binary)
        """
      ) { try await $0.write(bytes) }
    }
  }

  /// Decides which lines stay although they are events by themselves, and notes why.
  private func judge(_ chunk: Chunk, _ transaction: Transaction) async throws {
    try await transaction.execute(
      """
      UPDATE lethe_reread AS r
      SET why = CASE
          WHEN q.in_chunk = false THEN 'the ID is not in the chunk'
          WHEN q.in_chunk IS NULL OR q.id IS DISTINCT FROM r.id
          THEN 'nobody can tell any more whether the chunk had asked about the ID'
          WHEN NOT r.is_answered THEN 'the definition of its run has no action for ' || r.reason
          END
      FROM lethe.quarantine AS q WHERE q.quarantine_id = r.quarantine_id
      """)
    try await transaction.execute(
      """
      UPDATE lethe_reread SET why = 'the ID comes with different reasons'
      WHERE why IS NULL AND id IN (
        SELECT id FROM lethe_reread WHERE why IS NULL GROUP BY id HAVING count(DISTINCT reason) > 1)
      """)
    try await transaction.execute(
      """
      UPDATE lethe_reread AS r SET why = 'the ID has an event of this chunk already'
      WHERE why IS NULL AND is_selected
        AND (EXISTS (SELECT FROM lethe.event AS e
                     WHERE e.chunk_id = \(chunk.id) AND e.id = r.id AND e.cause_id IS NULL)
             OR EXISTS (SELECT FROM lethe.traced_reason(\(chunk.id), r.id))
             OR EXISTS (SELECT FROM lethe.collected AS s WHERE s.chunk_id = \(chunk.id) AND s.id = r.id)
             OR EXISTS (SELECT FROM lethe.refusal AS f
                        WHERE f.chunk_id = \(chunk.id) AND f.id = r.id AND f.resolved_at IS NULL)
             OR EXISTS (SELECT FROM lethe_reread AS f
                        WHERE f.id = r.id AND f.why IS NULL AND f.is_selected
                          AND f.quarantine_id < r.quarantine_id))
      """)
    try await transaction.execute(
      """
      UPDATE lethe.quarantine AS q SET why = r.why
      FROM lethe_reread AS r
      WHERE q.quarantine_id = r.quarantine_id AND r.is_selected AND r.why IS NOT NULL
      """)
  }

  /// - Returns: how many lines became events.
  private func collect(
    _ chunk: Chunk, _ jobID: Int64, _ transaction: Transaction
  ) async throws -> Int {
    let older = OlderHolds(chunk: chunk, jobID: jobID)
    let events = try await transaction.run(
      """
      INSERT INTO lethe.collected (chunk_id, id, reason, created_at, redacted_at, restores)
      SELECT \(chunk.id), r.id, r.reason, r.created_at, r.redacted_at,
             r.reason = ANY (\(Reason.outweighedByProtected)::lethe.reason[]) AND \(older.hide("r.id"))
               -- Another line about the ID may say that it is protected.
               AND NOT EXISTS (SELECT FROM lethe.quarantine AS q
                               WHERE q.chunk_id = \(chunk.id) AND q.id = r.id AND q.resolved_at IS NULL
                                 AND q.quarantine_id <> r.quarantine_id)
      FROM lethe_reread AS r WHERE r.why IS NULL AND r.is_selected
      """
    ).rowsAffected
    try await transaction.execute(
      """
      UPDATE lethe.quarantine AS q SET resolved_at = clock_timestamp(), resolution = 'retried'
      FROM lethe_reread AS r
      WHERE q.quarantine_id = r.quarantine_id AND r.is_selected AND r.why IS NULL
      """)
    return events
  }
}
