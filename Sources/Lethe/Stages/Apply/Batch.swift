import Definitions
import Ledger
import PostgreSQL
import SQLText
import Vocabulary
import Warehouse

/// One transaction of a chunk. It is done completely or not at all. Its phases, in order:
///
/// 1. Releases: restores the columns that no other ID holds, and ends the holds without a column left. Before the
/// releases, holds are written for some rows that protections without holds hide. The protections without holds that
/// the answers end are also deleted before the releases, because they would prevent releases.
/// 2. Restores of rows that were protected without holds. They check which transaction wrote a row
/// last, so they must come before the changes of the phases 3 and 4.
/// 3. Changes of further targets, children before parents.
/// 4. Changes of the dataset's own table. If possible, the statement of phase 5 also does the last change.
/// 5. Records: events, traces, tombstones, totals.
/// 6. Verification: finds rows that are still in a state that their event forbids.
struct Batch {
  let transaction: Transaction
  let ledger: ChunkLedger
  let chunk: Chunk
  let plan: ApplyPlan
  let catalog: Catalog
  var context: BatchContext

  static let namedRowsMax = 5

  private var records: BatchLedger {
    BatchLedger(transaction: transaction, origin: context.origin, answers: context.answers(plan))
  }

  private var release: Release {
    Release(
      transaction: transaction, catalog: catalog, chunk: chunk, context: context, records: records,
      protections: plan.protections)
  }

  /// Changes the rows that the events of `range` match, verifies that they are changed, and records the
  /// batch.
  func apply(_ range: EventRange) async throws {
    var batch = try await prepared()
    try await batch.changeRows(range)
  }

  private mutating func changeRows(_ range: EventRange) async throws {
    try await writeHoldsForFormerProtections(range)
    let hasEnded = try await endProtections(range)
    let released = try await release.run(range)
    var hasTouched = released.rowsRestored > 0
    let restores = hasEnded ? plan.restores.filter { $0.isDue(in: range) } : []
    if hasEnded, try await restore(restores, range) { hasTouched = true }
    let changes = (plan.children + plan.own).filter { $0.isDue(in: range) }
    let last = changes.last.flatMap { $0.target.isOwn && !$0.target.fansOut ? $0 : nil }
    for change in last == nil ? changes[...] : changes.dropLast() {
      if try await apply(change, range) { hasTouched = true }
      if change.keepsHolds, let key = change.holdKey { context.heldTables?.insert(key.table) }
      try await eraseFromHolds(change, range)
      // Rows that are reached through other tables are verified now. The next change might delete the rows of
      // those other tables, and then the reached rows could not be found.
      if !change.target.isDirect { try await verify(change, range) }
    }
    let digest = try await record(range, making: last, hasTouched: hasTouched)
    if let last { try await eraseFromHolds(last, range) }
    try await checkConstraints()
    for change in changes where change.target.isDirect { try await verify(change, range) }
    // If records were also written for restored rows or rows of further targets, this digest does not cover them.
    let isDigestOfAll = !released.hasRecords && (restores + changes).allSatisfy { !$0.recordsRows }
    try await ledger.batchApplied(
      of: chunk, number: context.origin.number, after: range.after, through: range.through,
      digest: isDigestOfAll ? digest : nil, on: transaction)
  }

  private func record(
    _ range: EventRange, making last: Change?, hasTouched: Bool
  ) async throws -> ChunkLedger.EventDigest {
    let context = context
    do {
      return try await records.record(
        range,
        making: last.map { change in
          BatchLedger.LastChange(
            action: change.action, table: "\(change.target.table.name)"
          ) { change.changedCTEs(range, context, returning: $0) }
        }, hasTouched: hasTouched)
    } catch let error as PostgreSQLError where !error.isTemporary {
      guard let last else { throw error }
      throw ApplyError(error, chunk, "\(last.label): ")
    }
  }

  // MARK: Rows protected without holds

  /// - Returns: whether the events end a protection without holds.
  private func endProtections(_ range: EventRange) async throws -> Bool {
    guard !plan.restores.isEmpty else { return false }
    return try await records.endProtections(range)
  }

  /// - Returns: whether the restores have changed rows.
  private func restore(_ restores: [Change], _ range: EventRange) async throws -> Bool {
    var hasTouched = false
    for change in restores {
      if try await apply(change, range) { hasTouched = true }
      try await verify(change, range)
    }
    // A protection stays if some of its rows are newer than the export and were not restored. The next answer
    // can then end it. This is decided before the other changes of this transaction, because a row that they
    // write does not count as newer than the export.
    let ids = plan.restores.map { $0.postponed(range, in: context) }
    try await records.keepProtections(of: ids.joined(separator: "\nUNION ALL\n"))
    return hasTouched
  }

  /// Writes holds for rows that protections without holds hide and that the events protect, too. Called before
  /// the batch changes or releases anything.
  private mutating func writeHoldsForFormerProtections(_ range: EventRange) async throws {
    let protecting = (plan.children + plan.own).filter { $0.keepsHolds && $0.isDue(in: range) }
    guard !protecting.isEmpty,
      try await transaction.query("SELECT EXISTS (SELECT FROM lethe.protection)")
        .onlyRow(as: Bool.self)
    else { return }
    for change in protecting {
      guard
        let statement = change.formerHolds(
          of: range, in: context, protections: plan.protections)
      else { continue }
      if try await run(statement, of: change) > 0, let key = change.holdKey {
        context.heldTables?.insert(key.table)
      }
    }
  }

  // MARK: Parts of one event

  /// Changes at most `rowsMax` of the rows that one event reaches in one table. The chunk's position does not
  /// move, because an event counts as applied only after its last row.
  /// - Parameter range: a range that contains only this event.
  /// - Returns: how many rows were changed.
  func applyPart(of range: EventRange, change: Change, rowsMax: Int) async throws -> Int {
    try await prepared().changePart(of: range, change, rowsMax: rowsMax)
  }

  private func changePart(
    of range: EventRange, _ change: Change, rowsMax: Int
  ) async throws -> Int {
    if change.isRestore { _ = try await endProtections(range) }
    _ = try await run(change.statement(for: range, in: context, rowsMax: rowsMax), of: change)
    try await eraseFromHolds(change, range)
    try await checkConstraints()
    if change.isRestore { try await records.keepProtections() }
    return try await recordPart(of: range)
  }

  /// Ends at most `holdsMax` of the holds that one event releases, in the order of their numbers. Starts after the
  /// hold number `hold`.
  func releasePart(
    of range: EventRange, after hold: Int64, holdsMax: Int
  ) async throws -> Release.Outcome {
    try await prepared().releaseHolds(of: range, after: hold, holdsMax: holdsMax)
  }

  private func releaseHolds(
    of range: EventRange, after hold: Int64, holdsMax: Int
  ) async throws -> Release.Outcome {
    let released = try await release.run(range, after: hold, holdsMax: holdsMax)
    guard released.lastHold != nil else { return released }
    try await checkConstraints()
    _ = try await recordPart(of: range)
    return released
  }

  private func recordPart(of range: EventRange) async throws -> Int {
    let rows = try await transaction.query(
      "SELECT coalesce(sum(rows), 0)::bigint FROM lethe_touched"
    ).onlyRow(as: Int.self)
    guard rows > 0 else { return 0 }
    try await records.recordPart(of: range.through)
    try await ledger.batchApplied(
      of: chunk, number: context.origin.number, after: range.after, through: range.after,
      on: transaction)
    return rows
  }

  /// The number of rows changed so far, by action, table and reason, as a plan shows them.
  func touched() async throws -> [TouchedRows: Int] {
    let rows = try await transaction.query(
      """
      SELECT action::text, table_name, reason::text, sum(rows)::bigint
      FROM lethe_touched GROUP BY 1, 2, 3
      """
    ).rows(as: String.self, String.self, String.self, Int.self)
    return Dictionary(
      uniqueKeysWithValues: rows.map {
        (TouchedRows(action: $0.0, table: $0.1, reason: $0.2), $0.3)
      })
  }

  /// Locks the plan's tables against other batches, sets the lock timeout, and locks the chunk.
  ///
  /// A batch that cannot lock a row within the lock timeout is rolled back and tried again.
  private func prepared() async throws -> Batch {
    try await lockTables()
    // After this lock, no newer answer can supersede an event, so all statements see the same events.
    try await ledger.lockChunk(chunk, on: transaction)
    var batch = self
    batch.context.heldTables = try await heldTables()
    return batch
  }

  /// Waits for other batches over the same tables. Call it before the transaction locks anything else.
  func lockTables() async throws {
    try await RowLock.take(
      plan.changes.map(\.target.table.name), on: transaction, transaction.timeouts)
  }

  /// The tables with held rows. Most tables have none, and their changes then need no search for holds.
  private func heldTables() async throws -> Set<String> {
    let names = Set(plan.changes.compactMap { $0.holdKey?.table })
    return Set(
      try await transaction.query(
        """
        SELECT name FROM pg_catalog.unnest(\(names.sorted())::text[]) AS name
        WHERE EXISTS (SELECT FROM lethe.hold WHERE table_name = name)
        """
      ).rows(as: String.self))
  }

  /// - Returns: whether the change has changed rows.
  private func apply(_ change: Change, _ range: EventRange) async throws -> Bool {
    try await run(change.statement(for: range, in: context), of: change) > 0
  }

  /// Removes from the holds the values that the change has erased from their rows. The tables with holds are
  /// looked up again, because a row might have been hidden since the batch began.
  private func eraseFromHolds(_ change: Change, _ range: EventRange) async throws {
    guard change.kind.erasure != nil else { return }
    var context = context
    context.heldTables = try await heldTables()
    guard let statement = change.holdErasure(of: range, in: context) else { return }
    _ = try await run(statement, of: change)
  }

  /// - Returns: the statement's row count. For a statement of a change, this is the number of events that have
  ///   changed rows.
  private func run(
    _ statement: SQL, of change: Change
  ) async throws -> Int {
    do {
      return try await transaction.run(statement).rowsAffected
    } catch let error as PostgreSQLError where !error.isTemporary {
      throw ApplyError(error, chunk, "\(change.label): ")
    }
  }

  /// Checks deferred constraints now. At the end of the transaction, the error would not show which change
  /// caused it.
  private func checkConstraints() async throws {
    do {
      try await transaction.execute("SET CONSTRAINTS ALL IMMEDIATE")
    } catch let error as PostgreSQLError where !error.isTemporary {
      throw ApplyError(error, chunk, "")
    }
  }

  /// Verifies that no row is still in a state that its event forbids.
  private func verify(_ change: Change, _ range: EventRange) async throws {
    let query = change.unchangedRows(of: range, in: context, rowsMax: Self.namedRowsMax)
    let rows = try await transaction.run(query).rows(as: String.self)
    guard !rows.isEmpty else { return }
    throw ApplyError(
      chunk,
      message: """
        \(change.label): rows are unchanged: \(rows.joined(separator: "; "))
        """,
      remedy: """
        look for a trigger, a rule or a policy of \(change.target.table.name) that undoes or skips the \
        change\(ApplyError.rolledBackNote)
        """, isTemporary: true)
  }
}

/// Rows of a table that a batch has changed, by action and reason.
struct TouchedRows: Hashable {
  /// A value of the enum type `lethe.action`.
  let action: String
  let table: String
  let reason: String
}

extension Change {
  /// Whether an event of `range` may need the change.
  func isDue(in range: EventRange) -> Bool {
    isRestore ? range.mayRestore : range.mayContain(reasons)
  }
}

extension BatchContext {
  func answers(_ plan: ApplyPlan) -> BatchLedger.Answers {
    BatchLedger.Answers(
      actions: Dictionary(
        uniqueKeysWithValues: plan.dataset.actions.map { ($0.key.rawValue, $0.value.word) }),
      removing: tombstones ? plan.reasons(\.isRemoving) : [],
      queueing: plan.reasons(\.queuesIDs), hasPrunedRecords: hasPrunedRecords)
  }
}
