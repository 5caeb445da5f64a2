import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Ends the holds of the IDs that a batch's answers release.
struct Release {
  let transaction: Transaction
  let catalog: Catalog
  let chunk: Chunk
  let context: BatchContext
  let records: BatchLedger
  /// The paths from IDs that an earlier version protected without holds to the rows that they may hide.
  let protections: [ProtectionPath]

  struct Outcome {
    /// The last hold that was processed. Nil if there was none.
    var lastHold: Int64?
    var rowsRestored = 0
    /// Whether event records were written for restored rows.
    var hasRecords = false
  }

  /// - Parameters:
  ///   - after: the hold after which to start.
  ///   - holdsMax: the maximum number of holds to process. Nil means no limit.
  func run(
    _ range: EventRange, after hold: Int64 = 0, holdsMax: Int? = nil
  ) async throws -> Outcome {
    var outcome = Outcome()
    guard range.mayRestore else { return outcome }
    outcome.lastHold = try await lockEnding(range, after: hold, holdsMax: holdsMax)
    guard outcome.lastHold != nil else { return outcome }
    // Other pipelines may have hidden rows of other tables.
    try await RowLock.take(
      HoldClosing.tablesEnding(on: transaction), on: transaction, transaction.timeouts)
    let restoration = RowRestoration(
      transaction: transaction, catalog: catalog, type: context.origin.type,
      versions: context.versions,
      protections: protections, chunk: chunk)
    try await restoration.findRestorableColumns()
    try await restoration.restoreRows()
    outcome.rowsRestored = try await records.countRestored()
    if outcome.rowsRestored > 0 { outcome.hasRecords = try await records.recordRestored() > 0 }
    try await restoration.endHolds(jobID: context.origin.jobID)
    return outcome
  }

  private func lockEnding(
    _ range: EventRange, after hold: Int64, holdsMax: Int?
  ) async throws -> Int64? {
    _ = try await transaction.run(
      Self.endings(in: range, context, after: hold, holdsMax: holdsMax))
    return try await transaction.query("SELECT max(hold_id) FROM lethe_ending")
      .onlyRow(as: Int64?.self)
  }

  /// The statement that locks the holds of the released IDs and lists them in `lethe_ending`.
  static func endings(
    in range: EventRange, _ context: BatchContext, after hold: Int64 = 0, holdsMax: Int? = nil
  ) -> SQL {
    let page: SQL =
      "ORDER BY r.hold_id \(holdsMax.map { "LIMIT \(literal: $0)" as SQL } ?? "OFFSET 0")"
    return """
      WITH ending AS MATERIALIZED (
        SELECT r.hold_id, s.id, s.reason
        FROM lethe.collected AS s CROSS JOIN LATERAL (
          SELECT r.hold_id FROM lethe.holder AS r
          WHERE r.type = \(context.origin.typeSQL) AND r.id = s.id
            AND r.hold_id > \(hold)
            AND r.asked_at < \(context.origin.askedAt)::timestamptz
          \(page)) AS r
        WHERE \(range.current) AND s.restores
          AND NOT s.reason = ANY (\(context.protecting)::lethe.reason[])
        \(page)
      ), locked AS MATERIALIZED (
        SELECT h.hold_id, h.table_name FROM lethe.hold AS h
        WHERE h.hold_id IN (SELECT hold_id FROM ending) ORDER BY h.hold_id FOR UPDATE
      )
      INSERT INTO lethe_ending (hold_id, id, reason, table_name)
      SELECT hold_id, id, reason, table_name FROM ending JOIN locked USING (hold_id)
      """
  }
}
