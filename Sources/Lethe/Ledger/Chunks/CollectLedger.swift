import CrashPoints
public import PostgreSQL
public import Vocabulary

/// The records of collect, for the step from `complete` to `collected`. They are written in the same transaction as the
/// events.
extension ChunkLedger {
  /// The facts about a result whose completeness was checked.
  public struct ResultFacts: Sendable {
    public let bytes: Int
    public let lines: Int
    /// The number of lines that must not be applied.
    public let quarantined: Int
    public let sha256: [UInt8]

    public init(bytes: Int, lines: Int, quarantined: Int, sha256: [UInt8]) {
      self.bytes = bytes
      self.lines = lines
      self.quarantined = quarantined
      self.sha256 = sha256
    }
  }

  /// Events in the format of `copyEvents`.
  public struct EventRows: Sendable {
    private let chunk: Int64
    private var rows = BinaryRows()

    public init(of chunk: Chunk) {
      self.chunk = chunk.id
    }

    public var isFull: Bool { rows.isFull }
    public mutating func take() -> [UInt8] { rows.take() }
    public mutating func takeLast() -> [UInt8] { rows.takeLast() }

    /// - Parameters:
    ///   - createdAt: microseconds since 2000.
    ///   - redactedAt: the same.
    public mutating func append(id: Int64, reason: Reason, createdAt: Int64?, redactedAt: Int64?) {
      rows.beginRow(columns: 5)
      rows.append(chunk)
      rows.append(id)
      rows.append(text: reason.rawValue)
      rows.append(createdAt)
      rows.append(redactedAt)
    }
  }

  /// Stores the events that wait to be applied.
  /// - Parameter body: writes `EventRows`, one for each ID, in the order of the IDs.
  public func copyEvents(
    on transaction: Transaction, isolation: isolated (any Actor)? = #isolation,
    _ body: (CopyIn) async throws -> Void
  ) async throws {
    try await transaction.withCopyIn(
      """
      COPY lethe.collected (chunk_id, id, reason, created_at, redacted_at) FROM STDIN (FORMAT binary)
      """, isolation: isolation, body)
  }

  /// Calls `body` with the IDs in the chunk's key range whose rows are hidden because of an older answer, in pages.
  private func forEachOlderHold(
    of chunk: Chunk, _ attempt: Attempt, on transaction: Transaction,
    _ body: ([Int64]) async throws -> Void
  ) async throws {
    let older = OlderHolds(chunk: chunk, jobID: attempt.jobID)
    var after = chunk.firstID - 1
    while true {
      let ids = try await older.ids(
        after: after, limit: Int(Self.idsPerStatement), on: transaction)
      guard let last = ids.last else { return }
      after = last
      try await body(ids)
    }
  }

  /// Decides which of the stored events restore rows. Stores a clean answer for each ID of the chunk that Lethe had
  /// protected, if the result has no event for the ID and its silence covers the ID. Call it after `silenceDecided`.
  ///
  /// - Parameter containing: returns those of the given IDs that were in the chunk.
  public func olderHoldsAnswered(
    of attempt: Attempt, _ chunk: Chunk, containing: ([Int64]) throws -> [Int64],
    on transaction: Transaction
  ) async throws {
    try await forEachOlderHold(of: chunk, attempt, on: transaction) { candidates in
      try await transaction.execute(
        """
        UPDATE lethe.collected AS s SET restores = true
        WHERE s.chunk_id = \(chunk.id) AND s.id = ANY (\(candidates)::bigint[])
          AND s.reason = ANY (\(Reason.outweighedByProtected)::lethe.reason[])
          -- Another line about the ID may mean that the ID is protected.
          AND NOT EXISTS (SELECT FROM lethe.unspoken AS u WHERE u.job_id = \(attempt.jobID)
            AND u.id = s.id)
        """)
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
  /// - Returns: the number of the chunk's events, and the number of its quarantined lines.
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
        quarantined = \(facts.quarantined)
        """)
    guard
      let row = try await transaction.query("\(collected) RETURNING events, quarantined")
        .firstRow(as: Int.self, Int.self)
    else { throw LedgerError.leaseLost(chunk.label) }
    return (row.0, row.1)
  }

  /// Refreshes the statistics of the events that wait. The plans of apply's statements depend on these statistics.
  public func refreshStatistics() async throws {
    try await connection.execute(recording: .statisticsRefreshed, "ANALYZE lethe.collected")
  }

  /// Refreshes the statistics of the holds if the table of the holds or of the holders has grown by more than 20 %
  /// since the last refresh. Call it after holds were committed. While all holds belong to an open transaction,
  /// PostgreSQL would record that the table has pages but no rows, and would use these statistics for its plans.
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
