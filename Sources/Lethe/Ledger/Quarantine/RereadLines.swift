public import PostgreSQL
public import Vocabulary

/// The quarantined lines of a chunk that can now be read as events. They are in a temporary table until the transaction
/// ends.
public struct RereadLines: Sendable {
  private let chunk: Chunk
  private let jobID: Int64
  private let transaction: Transaction

  /// Creates the empty table.
  /// - Parameter jobID: the job whose result contains the chunk's events.
  public init(of chunk: Chunk, jobID: Int64, on transaction: Transaction) async throws {
    self.chunk = chunk
    self.jobID = jobID
    self.transaction = transaction
    try await transaction.runScript(
      """
      CREATE TEMP TABLE lethe_reread (
          quarantine_id bigint PRIMARY KEY, is_selected boolean NOT NULL, id bigint NOT NULL,
          reason lethe.reason NOT NULL, created_at timestamptz, redacted_at timestamptz,
          has_action boolean NOT NULL, why text
      ) ON COMMIT DROP
      """)
  }

  /// Lines in the form that `add` takes.
  public struct Rows: Sendable {
    fileprivate var rows = BinaryRows()

    public init() {}

    /// - Parameters:
    ///   - isSelected: whether the line is retried. Other lines are read only because they can contradict a retried
    ///     line.
    ///   - hasAction: whether the definition of the chunk's run has an action for the reason.
    public mutating func append(
      _ quarantineID: Int64, isSelected: Bool, id: Int64, reason: Reason, createdAt: Timestamp?,
      redactedAt: Timestamp?, hasAction: Bool
    ) {
      rows.beginRow(columns: 7)
      rows.append(quarantineID)
      rows.append(bool: isSelected)
      rows.append(id)
      rows.append(text: reason.rawValue)
      rows.append(createdAt?.microsecondsSince2000)
      rows.append(redactedAt?.microsecondsSince2000)
      rows.append(bool: hasAction)
    }
  }

  public func add(_ lines: Rows) async throws {
    var rows = lines.rows
    let bytes = rows.takeLast()
    try await transaction.withCopyIn(
      """
      COPY lethe_reread
        (quarantine_id, is_selected, id, reason, created_at, redacted_at, has_action)
      FROM STDIN (FORMAT binary)
      """
    ) { try await $0.write(bytes) }
  }

  /// Decides which lines stay in the quarantine although they can be read as events, and records why.
  public func markUnusable() async throws {
    try await transaction.execute(
      """
      UPDATE lethe_reread AS r
      SET why = CASE
          WHEN q.in_chunk = false THEN 'the ID is not in the chunk'
          WHEN q.in_chunk IS NULL OR q.id IS DISTINCT FROM r.id
          THEN 'the ledger no longer records whether the chunk asked about the ID'
          WHEN NOT r.has_action THEN 'the definition of its run has no action for ' || r.reason
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
      UPDATE lethe_reread AS r SET why = 'the chunk already has an event about the ID'
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

  /// Resolves the lines that do not stay in the quarantine. Their events wait to be applied.
  /// - Returns: how many lines became events.
  public func collect() async throws -> Int {
    let older = OlderHolds(chunk: chunk, jobID: jobID)
    let events = try await transaction.run(
      """
      INSERT INTO lethe.collected (chunk_id, id, reason, created_at, redacted_at, restores)
      SELECT \(chunk.id), r.id, r.reason, r.created_at, r.redacted_at,
             r.reason = ANY (\(Reason.outweighedByProtected)::lethe.reason[]) AND \(older.hide("r.id"))
               -- Another line about the ID may have the reason protected.
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
