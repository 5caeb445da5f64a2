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
  /// The paths on which IDs protected without holds may hide a row.
  let protections: [ProtectionPath]

  struct Outcome {
    /// The last hold that was processed. Nil if there was none.
    var lastHold: Int64?
    var rowsOpened = 0
    var hasRecords = false
  }

  /// - Parameters:
  ///   - after: the hold after which to start.
  ///   - holdsMax: the most holds to process.
  func run(
    _ range: EventRange, after hold: Int64 = 0, holdsMax: Int? = nil
  ) async throws -> Outcome {
    var outcome = Outcome()
    guard range.mayRestore else { return outcome }
    outcome.lastHold = try await lockEnding(range, after: hold, holdsMax: holdsMax)
    guard outcome.lastHold != nil else { return outcome }
    let holds = HoldEnding(
      transaction: transaction, catalog: catalog, type: context.origin.type,
      versions: context.versions,
      protections: protections, chunk: chunk)
    try await holds.findRestorableColumns()
    try await holds.open()
    outcome.rowsOpened = try await records.countOpened()
    if outcome.rowsOpened > 0 { outcome.hasRecords = try await records.recordOpened() > 0 }
    try await holds.end(jobID: context.origin.jobID)
    return outcome
  }

  private func lockEnding(
    _ range: EventRange, after hold: Int64, holdsMax: Int?
  ) async throws -> Int64? {
    let page: SQL =
      "ORDER BY r.hold_id \(holdsMax.map { "LIMIT \(literal: $0)" as SQL } ?? "OFFSET 0")"
    _ = try await transaction.run(
      """
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
        SELECT h.hold_id FROM lethe.hold AS h
        WHERE h.hold_id IN (SELECT hold_id FROM ending) ORDER BY h.hold_id FOR UPDATE
      )
      INSERT INTO lethe_ending (hold_id, id, reason)
      SELECT hold_id, id, reason FROM ending JOIN locked USING (hold_id)
      """)
    return try await transaction.query("SELECT max(hold_id) FROM lethe_ending")
      .onlyRow(as: Int64?.self)
  }
}
