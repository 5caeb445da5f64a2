import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// What a batch leaves in the ledger beside the changed rows, in the same transaction.
struct Bookkeeping {
  let transaction: Transaction
  let chunk: Chunk
  let dataset: Dataset
  let context: BatchContext
  let changes: [Change]

  /// A session's scratch tables: the rows counted by action, table and event, or without the event where its
  /// record has its count already, and the protections that the batch ends. Empty at each begin.
  static let scratchTables: SQL = """
    CREATE TEMP TABLE IF NOT EXISTS lethe_touched (
        action lethe.action NOT NULL, table_name text NOT NULL, id bigint, reason lethe.reason NOT NULL,
        rows bigint NOT NULL
    ) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE IF NOT EXISTS lethe_restored (
        id bigint PRIMARY KEY, chunk_id bigint NOT NULL, protected_at timestamptz NOT NULL,
        asked_at timestamptz NOT NULL
    ) ON COMMIT DELETE ROWS;
    \(HoldEnding.scratchTables)
    """

  /// For batches that are parts of one transaction, whose end comes late.
  static let emptyScratchTables: SQL =
    "TRUNCATE lethe_touched, lethe_restored, \(HoldEnding.scratchTableNames)"

  var hasRestores: Bool { changes.contains(where: \.isRestore) }

  // MARK: Protections of versions without holds

  /// Before the rows: ends the protections that the batch's answers end. One that rests on a newer
  /// answer than the chunk's stays.
  /// - Returns: whether there were any.
  func endProtections(_ range: EventRange) async throws -> Bool {
    guard hasRestores, range.mayRestore else { return false }
    let pipeline: SQL = "\(chunk.pipeline)"
    let name: SQL = "\(dataset.name)"
    let job: SQL = "\(context.jobID)"
    return try await transaction.run(
      """
      WITH ended AS (
        DELETE FROM lethe.protection AS p USING lethe.collected AS s, lethe.job AS j
        WHERE p.pipeline = \(pipeline) AND p.dataset = \(name) AND p.id = s.id
          AND \(range.standing) AND s.restores
          AND j.job_id = \(job) AND p.asked_at < j.asked_at
        RETURNING p.id, p.chunk_id, p.protected_at, p.asked_at
      )
      INSERT INTO lethe_restored (id, chunk_id, protected_at, asked_at)
      SELECT id, chunk_id, protected_at, asked_at FROM ended
      """
    ).rowsAffected > 0
  }

  /// After the restores: a protection of which rows had to be left as they are goes on, for the next
  /// answer to end.
  func keepPostponedProtections(_ range: EventRange) async throws {
    let ids = changes.compactMap { $0.postponed(range, in: context) }
    guard !ids.isEmpty else { return }
    let isPostponed: SQL = "id IN (\(ids.joined(separator: "\nUNION ALL\n")))"
    try await keepProtections(where: isPostponed)
  }

  /// Puts all protections back that this transaction has ended: the event is not through yet.
  func keepAllProtections() async throws {
    guard hasRestores else { return }
    try await keepProtections(where: "true")
  }

  private func keepProtections(where condition: SQL) async throws {
    let pipeline: SQL = "\(chunk.pipeline)"
    let name: SQL = "\(dataset.name)"
    _ = try await transaction.run(
      """
      INSERT INTO lethe.protection (pipeline, dataset, id, chunk_id, protected_at, asked_at)
      SELECT \(pipeline), \(name), id, chunk_id, protected_at, asked_at
      FROM lethe_restored WHERE \(condition)
      ON CONFLICT (pipeline, dataset, id) DO NOTHING
      """)
  }

  // MARK: Records

  /// - Parameters:
  ///   - last: a change that is made by the same statement as the event records.
  ///   - hasTouched: whether there are rows in `lethe_touched`.
  /// - Returns: the digest of the records of the range's own events.
  func record(
    _ range: EventRange, making last: Change?, hasTouched: Bool
  ) async throws -> ChunkLedger.EventDigest {
    try await queueRehydrations(range)
    let digest = try await recordEvents(range, making: last, hasTouched: hasTouched)
    if hasTouched { try await recordTotals() }
    return digest
  }

  /// A part of an event is done: keeps its counts with the event, for its record.
  func recordPart(of id: Int64) async throws {
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
      WHERE chunk_id = \(chunk.id) AND id = \(id)
      """)
    try await recordTotals()
  }

  /// The end of an INSERT into `lethe.change`.
  static let addingToTotals: SQL = """
    ON CONFLICT (chunk_id, table_name, action, reason)
    DO UPDATE SET rows = change.rows + excluded.rows
    """

  private func recordTotals() async throws {
    try await transaction.execute(
      """
      INSERT INTO lethe.change (chunk_id, table_name, action, reason, rows)
      SELECT \(chunk.id), table_name, action, reason, sum(rows)
      FROM lethe_touched GROUP BY table_name, action, reason
      \(Self.addingToTotals)
      """)
  }

  private func queueRehydrations(_ range: EventRange) async throws {
    let reasons = self.reasons { $0.word == "rehydrate" }
    guard range.mayHold(reasons) else { return }
    let type: SQL = "\(dataset.type.rawValue)"
    let job: SQL = "\(context.jobID)"
    let words: SQL = "\(reasons)"
    _ = try await transaction.run(
      """
      INSERT INTO lethe.rehydration (type, id, reason, job_id, queued_at)
      SELECT \(type)::lethe.job_type, s.id, s.reason, \(job)::bigint, now()
      FROM lethe.collected AS s
      WHERE \(range.standing) AND s.reason = ANY (\(words)::lethe.reason[])
        AND \(Change.isNews(context, label: nil))
      ON CONFLICT (type, id) DO NOTHING
      """)
  }

  func reasons(_ isIncluded: (Action) -> Bool) -> [String] {
    dataset.actions.filter { isIncluded($0.value) }.keys.map(\.rawValue)
  }
}
