package import PostgreSQL
package import SQLText

/// Writes a batch's records to the ledger, in the same transaction as the changed rows.
package struct BatchLedger: Sendable {
  let transaction: Transaction
  let origin: BatchOrigin
  let answers: Answers

  /// The dataset's action for each reason, and what else an event with that reason causes.
  package struct Answers: Sendable {
    /// The label of `lethe.action` for each label of `lethe.reason`.
    let actions: [String: String]
    /// The reasons whose IDs leave tombstones.
    let removing: [String]
    /// The reasons whose IDs are queued to be fetched again.
    let queueing: [String]
    /// Whether event records might have been pruned. If so, the record of an edit can be missing, although a trace of
    /// the edit exists.
    let hasPrunedRecords: Bool

    package init(
      actions: [String: String], removing: [String], queueing: [String], hasPrunedRecords: Bool
    ) {
      self.actions = actions
      self.removing = removing
      self.queueing = queueing
      self.hasPrunedRecords = hasPrunedRecords
    }
  }

  /// A change that the statement for the event records also makes.
  package struct LastChange: Sendable {
    /// The label of `lethe.action`.
    let action: String
    let table: String
    /// SQL: common table expressions. `changed` returns event_id and reason, and the given columns of the events.
    let changed: @Sendable (_ columns: [SQL]) -> SQL

    /// The change's name in event records.
    var label: String { "\(action) \(table)" }

    package init(
      action: String, table: String, changed: @escaping @Sendable (_ columns: [SQL]) -> SQL
    ) {
      self.action = action
      self.table = table
      self.changed = changed
    }
  }

  package init(transaction: Transaction, origin: BatchOrigin, answers: Answers) {
    self.transaction = transaction
    self.origin = origin
    self.answers = answers
  }

  // MARK: Protections without holds

  /// Ends the protections that the batch's answers end. Call it before the rows are changed. A protection stays unless
  /// its answer is older than the chunk's answer.
  /// - Returns: whether any protection was ended.
  package func endProtections(_ range: EventRange) async throws -> Bool {
    guard range.mayRestore else { return false }
    return try await transaction.run(
      """
      WITH ended AS (
        DELETE FROM lethe.protection AS p USING lethe.collected AS s, lethe.job AS j
        WHERE p.pipeline = \(origin.pipeline) AND p.dataset = \(origin.dataset) AND p.id = s.id
          AND \(range.current) AND s.restores
          AND j.job_id = \(origin.jobID) AND p.asked_at < j.asked_at
        RETURNING p.id, p.chunk_id, p.protected_at, p.asked_at
      )
      INSERT INTO lethe_restored (id, chunk_id, protected_at, asked_at)
      SELECT id, chunk_id, protected_at, asked_at FROM ended
      """
    ).rowsAffected > 0
  }

  /// Puts back protections that this transaction has ended.
  /// - Parameter ids: a query of the IDs of the protections to put back. Nil for all of them.
  package func keepProtections(of ids: SQL? = nil) async throws {
    _ = try await transaction.run(
      """
      INSERT INTO lethe.protection (pipeline, dataset, id, chunk_id, protected_at, asked_at)
      SELECT \(origin.pipeline), \(origin.dataset), id, chunk_id, protected_at, asked_at
      FROM lethe_restored WHERE \(ids.map { "id IN (\($0))" as SQL } ?? "true")
      ON CONFLICT (pipeline, dataset, id) DO NOTHING
      """)
  }

  // MARK: Rows that are restored

  /// Counts the rows that releases have restored, for the batch's totals.
  package func countRestored() async throws -> Int {
    try await transaction.execute(
      """
      INSERT INTO lethe_touched (action, table_name, id, reason, rows)
      SELECT 'restore', table_name, id, reason, count(*)
      FROM lethe_due WHERE outcome = 'restored' GROUP BY table_name, id, reason
      """)
    return try await transaction.query(
      "SELECT count(*) FROM lethe_due WHERE outcome = 'restored'"
    ).onlyRow(as: Int.self)
  }

  /// Writes records for restored rows that are posts or users themselves, except for the event's own row.
  /// - Returns: the number of records.
  package func recordRestored() async throws -> Int {
    try await transaction.execute(
      """
      INSERT INTO lethe.event
        (id, type, reason, action, chunk_id, job_id, applied_at, changed, cause_id, batch)
      SELECT h.row_id, h.row_type, d.reason, 'restore', \(origin.chunkID), \(origin.jobID), now(),
             pg_catalog.jsonb_build_object('restore ' || d.table_name, 1), d.id, \(origin.number)::integer
      FROM lethe_due AS d JOIN lethe.hold AS h USING (hold_id)
      WHERE d.outcome = 'restored' AND h.row_id IS NOT NULL
        AND (h.row_type, h.row_id) <> (\(origin.typeSQL), d.id)
      """)
  }

  // MARK: Records

  /// Writes the records of a range's events.
  /// - Parameters:
  ///   - last: a change that the same statement makes.
  ///   - hasTouched: whether there are rows in `lethe_touched`.
  /// - Returns: the digest of the records of the range's own events.
  package func record(
    _ range: EventRange, making last: LastChange?, hasTouched: Bool
  ) async throws -> ChunkLedger.EventDigest {
    try await queueRehydrations(range)
    let row = try await transaction.run(
      Self.recordStatement(range, of: origin, answers, making: last, hasTouched: hasTouched)
    ).onlyRow()
    let digest = ChunkLedger.EventDigest(
      records: try row["events"], sha256: try row["sha256"])
    if hasTouched { try await recordTotals() }
    return digest
  }

  /// The statement that `record` runs for the events.
  package static func recordStatement(
    _ range: EventRange, of origin: BatchOrigin, _ answers: Answers, making last: LastChange?,
    hasTouched: Bool
  ) -> SQL {
    EventRecords(origin: origin, answers: answers)
      .statement(range, making: last, hasTouched: hasTouched)
  }

  /// Stores the counts of a partly applied event with the event. Later these counts become part of the event's record.
  package func recordPart(of id: Int64) async throws {
    try await transaction.executeOne(
      """
      UPDATE lethe.collected AS s
      SET changed = (
        SELECT pg_catalog.jsonb_object_agg(label, rows)
        FROM (
          SELECT label, sum(rows) AS rows
          FROM (
            SELECT action || ' ' || table_name AS label, rows FROM lethe_touched
            UNION ALL
            SELECT key, value::bigint FROM jsonb_each_text(s.changed)
          ) AS counted
          GROUP BY label
        ) AS labelled)
      WHERE chunk_id = \(origin.chunkID) AND id = \(id)
      """)
    try await recordTotals()
  }

  /// The end of an INSERT into `lethe.change`: adds the rows to a count that already exists.
  static let addingToTotals: SQL = """
    ON CONFLICT (chunk_id, table_name, action, reason)
    DO UPDATE SET rows = change.rows + excluded.rows
    """

  private func recordTotals() async throws {
    try await transaction.execute(
      """
      INSERT INTO lethe.change (chunk_id, table_name, action, reason, rows)
      SELECT \(origin.chunkID), table_name, action, reason, sum(rows)
      FROM lethe_touched GROUP BY table_name, action, reason
      \(Self.addingToTotals)
      """)
  }

  private func queueRehydrations(_ range: EventRange) async throws {
    guard range.mayContain(answers.queueing) else { return }
    _ = try await transaction.run(
      """
      INSERT INTO lethe.rehydration (type, id, reason, job_id, queued_at)
      SELECT \(origin.typeSQL), s.id, s.reason, \(origin.jobID)::bigint, now()
      FROM lethe.collected AS s
      WHERE \(range.current) AND s.reason = ANY (\(answers.queueing)::lethe.reason[])
        AND \(EditHistory(origin, hasPrunedRecords: answers.hasPrunedRecords).isNewEdit(label: nil))
      ON CONFLICT (type, id) DO NOTHING
      """)
  }
}
