import PostgreSQL

/// Compares the event records and traces with the hashes in their batches. The records of the chain contain hashes of
/// the batches, so `ChainVerifier` detects a changed batch.
struct EventVerifier {
  let session: Transaction
  let chunkIDMax: Int64
  let prunedThrough: String?
  var result: AuditVerification

  private static let batchesPerStatement: Int64 = 200
  private static let minusInfinity = "-infinity"

  private var pruned: Parameter { .text(prunedThrough ?? Self.minusInfinity) }

  mutating func verify() async throws {
    var after: (chunkID: Int64, number: Int64) = (0, 0)
    while case let page = try await batches(after: after), let last = page.last {
      for batch in page { verify(batch) }
      after = (last.chunkID, last.number)
    }
    try await requireBatchOfEachEvent()
    try await requireBatchOfEachTrace()
    try await requireNothingPruned(in: "lethe.event", events: "count(*)", id: "min(id)")
    try await requireNothingPruned(
      in: "lethe.trace", events: "coalesce(sum(events), 0)::bigint", id: "min(first_id)")
  }

  private struct Batch {
    let chunkID: Int64
    let number: Int64
    let records: Int
    let appliedAt: String
    let isSealed: Bool
    /// The current number of event records and traced events. Nil if they were pruned.
    let recordsNow: Int?
    let isHashValid: Bool?
    let hasTraces: Bool
  }

  private func batches(after: (chunkID: Int64, number: Int64)) async throws -> [Batch] {
    try await session.query(
      """
      SELECT b.chunk_id, b.number, b.records, \(AuditLedger.utc("b.applied_at")) AS applied_at,
             EXISTS (SELECT FROM lethe.seal AS s WHERE s.chunk_id = b.chunk_id) AS is_sealed,
             now.records AS records_now, now.sha256 = b.sha256 AS is_hash_valid,
             EXISTS (SELECT FROM lethe.trace AS t WHERE t.chunk_id = b.chunk_id
               AND t.batch = b.number) AS has_traces
      FROM (
        SELECT * FROM lethe.batch WHERE (chunk_id, number) > (\(after.chunkID), \(after.number))
        ORDER BY chunk_id, number LIMIT \(Self.batchesPerStatement)
      ) AS b
      LEFT JOIN LATERAL (
        SELECT * FROM lethe.event_digest(b.chunk_id, b.number)
        WHERE b.applied_at >= \(pruned)::timestamptz
      ) AS now ON true
      ORDER BY b.chunk_id, b.number
      """
    ).rows.map { row in
      try Batch(
        chunkID: row["chunk_id"], number: row["number"], records: row["records"],
        appliedAt: row["applied_at"], isSealed: row["is_sealed"],
        recordsNow: row["records_now"], isHashValid: row["is_hash_valid"],
        hasTraces: row["has_traces"])
    }
  }

  private mutating func verify(_ batch: Batch) {
    if !batch.isSealed { result.batchesUnsealed += 1 }
    guard let records = batch.recordsNow, let isHashValid = batch.isHashValid else {
      result.batchesPruned += 1
      return
    }
    if records == batch.records, isHashValid {
      result.batchesProven += 1
      result.eventsProven += records
      return
    }
    result.addFault(
      batch.hasTraces ? "lethe.event and lethe.trace" : "lethe.event",
      "chunk_id = \(batch.chunkID) AND batch = \(batch.number)",
      records == batch.records
        ? "its \(records) records differ from those that were written"
        : "it has \(records) records, but \(batch.records) were written",
      writtenAt: batch.appliedAt)
  }

  private mutating func requireBatchOfEachEvent() async throws {
    let orphans = try await session.query(
      """
      SELECT e.chunk_id, e.batch, count(*) AS records, min(e.id) AS id,
             \(AuditLedger.utc("max(e.applied_at)")) AS applied_at
      FROM lethe.event AS e
      WHERE NOT EXISTS (SELECT FROM lethe.batch AS b
                        WHERE b.chunk_id = e.chunk_id AND b.number = e.batch)
        AND NOT (e.batch IS NULL AND e.chunk_id <= \(chunkIDMax))
      GROUP BY e.chunk_id, e.batch ORDER BY e.chunk_id, e.batch LIMIT \(AuditVerification.faultsMax)
      """
    ).rows
    for row in orphans {
      let batch = try row.decode(Int64?.self, "batch")
      result.addFault(
        "lethe.event",
        """
        chunk_id = \(try row.decode(Int64.self, "chunk_id")) \
        AND batch \(batch.map { "= \($0)" } ?? "IS NULL")
        """,
        """
        \(try row.decode(Int.self, "records")) records, such as the record of ID \
        \(try row.decode(Int64.self, "id")), belong to no batch of lethe.batch
        """,
        writtenAt: try row["applied_at"])
    }
    result.eventsBeforeChain = try await session.query(
      "SELECT count(*) FROM lethe.event WHERE batch IS NULL AND chunk_id <= \(chunkIDMax)"
    ).onlyRow(as: Int.self)
  }

  private mutating func requireBatchOfEachTrace() async throws {
    let orphans = try await session.query(
      """
      SELECT t.chunk_id, t.batch, sum(t.events)::bigint AS events, min(t.first_id) AS id,
             \(AuditLedger.utc("max(t.applied_at)")) AS applied_at
      FROM lethe.trace AS t
      WHERE NOT EXISTS (SELECT FROM lethe.batch AS b
                        WHERE b.chunk_id = t.chunk_id AND b.number = t.batch)
      GROUP BY t.chunk_id, t.batch ORDER BY t.chunk_id, t.batch LIMIT \(AuditVerification.faultsMax)
      """
    ).rows
    for row in orphans {
      let (chunkID, batch) = try (
        row.decode(Int64.self, "chunk_id"), row.decode(Int64.self, "batch")
      )
      result.addFault(
        "lethe.trace", "chunk_id = \(chunkID) AND batch = \(batch)",
        """
        traces of \(try row.decode(Int.self, "events")) events, such as the event of ID \
        \(try row.decode(Int64.self, "id")), belong to no batch of lethe.batch
        """,
        writtenAt: try row["applied_at"])
    }
  }

  /// Checks that no record is in the pruned period. The batches of that period are not compared with their hashes any
  /// more, so without this check, added records would not be detected.
  private mutating func requireNothingPruned(
    in table: SQL, events: SQL, id: SQL
  ) async throws {
    guard let prunedThrough else { return }
    let (count, id) = try await session.query(
      "SELECT \(events), \(id) FROM \(table) WHERE applied_at < \(pruned)::timestamptz"
    ).onlyRow(as: Int.self, Int64?.self)
    guard let id else { return }
    result.addFault(
      table.description, "applied_at < '\(prunedThrough)'",
      "\(count) records, such as the record of ID \(id), are in the period that was pruned",
      writtenAt: prunedThrough)
  }
}
