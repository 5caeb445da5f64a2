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
  let jobID: Int64
  let changes: [Change]

  /// A session's scratch tables: the rows counted by change and event, and the IDs whose protection
  /// the batch ends. Empty at each begin.
  static let scratchTables = """
    CREATE TEMP TABLE IF NOT EXISTS lethe_touched (
        change integer NOT NULL, id bigint NOT NULL, reason lethe.reason NOT NULL, rows bigint NOT NULL
    ) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE IF NOT EXISTS lethe_restored (id bigint PRIMARY KEY) ON COMMIT DELETE ROWS
    """

  private var hasRestores: Bool { changes.contains { $0.action == "restore" } }

  /// Before the rows: ends the protections that the batch's answers end. A protection that has been
  /// renewed since the chunk was exported is not judged by it, however late the chunk is applied.
  func endProtections(_ range: EventRange) async throws {
    guard hasRestores else { return }
    var bound = BoundStatement()
    let pipeline = bound.bind(.text(chunk.pipeline))
    let name = bound.bind(.text(dataset.name))
    _ = try await transaction.run(
      """
      WITH ended AS (
        DELETE FROM lethe.protection AS p USING lethe.collected AS s, lethe.chunk AS c
        WHERE p.pipeline = \(pipeline) AND p.dataset = \(name) AND p.id = s.id
          AND \(bound.range(range)) AND s.restores
          AND c.chunk_id = s.chunk_id AND p.protected_at < c.exported_at
        RETURNING p.id
      )
      INSERT INTO lethe_restored (id) SELECT id FROM ended
      """, bound.parameters)
  }

  func record(_ range: EventRange) async throws {
    try await recordEvents(range)
    try await recordTotals()
    if dataset.tombstones { try await recordTombstones(range) }
    try await queueRehydrations(range)
    if hasRestores { try await recordProtections(range) }
  }

  private func recordEvents(_ range: EventRange) async throws {
    var bound = BoundStatement()
    let labels = bound.bind(.texts(changes.map(\.label)))
    let reasons = bound.bind(.texts(dataset.actions.keys.map(\.rawValue) + ["clean"]))
    let actions = bound.bind(.texts(dataset.actions.values.map(\.word) + ["restore"]))
    let type = bound.bind(.text(dataset.type.rawValue))
    let job = bound.bind(.integer(jobID))
    _ = try await transaction.run(
      """
      INSERT INTO lethe.event
        (id, type, reason, action, chunk_id, job_id, created_at, redacted_at, applied_at, changed)
      SELECT s.id, \(type)::lethe.job_type, s.reason, a.action::lethe.action, s.chunk_id,
             \(job)::bigint, s.created_at, s.redacted_at, now(), c.changed
      FROM lethe.collected AS s
      JOIN unnest(\(reasons)::lethe.reason[], \(actions)::text[]) AS a (reason, action)
        ON a.reason = s.reason
      LEFT JOIN (
        SELECT id, jsonb_object_agg(label, rows) AS changed
        FROM (
          SELECT t.id, l.label, sum(t.rows) AS rows
          FROM lethe_touched AS t
          JOIN unnest(\(labels)::text[]) WITH ORDINALITY AS l (label, change) ON l.change = t.change
          GROUP BY t.id, l.label
        ) AS labelled
        GROUP BY id
      ) AS c ON c.id = s.id
      WHERE \(bound.range(range))
      """, bound.parameters)
  }

  private func recordTotals() async throws {
    try await transaction.execute(
      """
      INSERT INTO lethe.change (chunk_id, table_name, action, reason, rows)
      SELECT $1, c.table_name, c.action::lethe.action, t.reason, sum(t.rows)
      FROM lethe_touched AS t
      JOIN unnest($2::text[], $3::text[]) WITH ORDINALITY AS c (table_name, action, change)
        ON c.change = t.change
      GROUP BY c.table_name, c.action, t.reason
      ON CONFLICT (chunk_id, table_name, action, reason)
      DO UPDATE SET rows = change.rows + excluded.rows
      """, .integer(chunk.id), .texts(changes.map { "\($0.reach.table.name)" }),
      .texts(changes.map(\.action)))
  }

  /// The event says that the ID is gone, whether or not its row was still there.
  private func recordTombstones(_ range: EventRange) async throws {
    var bound = BoundStatement()
    let type = bound.bind(.text(dataset.type.rawValue))
    let job = bound.bind(.integer(jobID))
    let reasons = bound.bind(.texts(self.reasons { $0 == .delete }))
    _ = try await transaction.run(
      """
      INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
      SELECT \(type)::lethe.job_type, s.id, s.reason, \(job)::bigint, now()
      FROM lethe.collected AS s
      WHERE \(bound.range(range)) AND s.reason = ANY (\(reasons)::lethe.reason[])
      ON CONFLICT (type, id) DO NOTHING
      """, bound.parameters)
  }

  private func queueRehydrations(_ range: EventRange) async throws {
    let reasons = self.reasons { $0 == .rehydrate }
    guard !reasons.isEmpty else { return }
    var bound = BoundStatement()
    let type = bound.bind(.text(dataset.type.rawValue))
    let job = bound.bind(.integer(jobID))
    let words = bound.bind(.texts(reasons))
    _ = try await transaction.run(
      """
      INSERT INTO lethe.rehydration (type, id, reason, job_id, queued_at)
      SELECT \(type)::lethe.job_type, s.id, s.reason, \(job)::bigint, now()
      FROM lethe.collected AS s
      WHERE \(bound.range(range)) AND s.reason = ANY (\(words)::lethe.reason[])
      ON CONFLICT (type, id) DO NOTHING
      """, bound.parameters)
  }

  /// Remembers which IDs are protected now, so that a later answer can restore them, and forgets those
  /// that are gone.
  private func recordProtections(_ range: EventRange) async throws {
    let reasons = changes.filter { $0.action == "protect" }.flatMap(\.reasons)
    var bound = BoundStatement()
    let words = bound.bind(.texts(reasons))
    let gone = bound.bind(.texts(self.reasons { $0 == .delete }))
    let pipeline = bound.bind(.text(chunk.pipeline))
    let name = bound.bind(.text(dataset.name))
    let events = bound.range(range)
    _ = try await transaction.run(
      """
      WITH forgotten AS (
        DELETE FROM lethe.protection AS p USING lethe.collected AS s
        WHERE p.pipeline = \(pipeline) AND p.dataset = \(name) AND p.id = s.id
          AND \(events) AND s.reason = ANY (\(gone)::lethe.reason[])
      )
      INSERT INTO lethe.protection (pipeline, dataset, id, chunk_id, protected_at)
      SELECT \(pipeline), \(name), s.id, s.chunk_id, now()
      FROM lethe.collected AS s
      WHERE \(events) AND s.reason = ANY (\(words)::lethe.reason[])
      ON CONFLICT (pipeline, dataset, id)
      DO UPDATE SET chunk_id = excluded.chunk_id, protected_at = excluded.protected_at
      """, bound.parameters)
  }

  private func reasons(_ isIncluded: (Action) -> Bool) -> [String] {
    dataset.actions.filter { isIncluded($0.value) }.keys.map(\.rawValue)
  }
}
