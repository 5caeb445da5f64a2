import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// One transaction's worth of a chunk, whole or not at all.
struct Batch {
  let transaction: Transaction
  let ledger: ChunkLedger
  let chunk: Chunk
  let dataset: Dataset
  let changes: [Change]
  let context: BatchContext

  /// A batch that cannot have a row in this time lets go of those it has, and comes back.
  private static let lockTimeoutMilliseconds = 5_000
  private static let namedRowsMax = 5

  private var bookkeeping: Bookkeeping {
    Bookkeeping(
      transaction: transaction, chunk: chunk, dataset: dataset, context: context,
      changes: changes)
  }

  /// Changes the rows that the events of `range` reach, proves that they are changed, and records it.
  func apply(_ range: EventRange) async throws {
    try await begin()
    try await bookkeeping.endProtections(range)
    let due = changes.enumerated().filter { $0.element.isDue(in: range) }
      .map { NumberedChange(number: $0.offset + 1, change: $0.element) }
    var hasTouched = false
    for each in due where each.change.isRestore {
      if try await apply(each, range) { hasTouched = true }
      try await verify(each.change, range)
    }
    // What other changes write below looks like Lethe's own row afterwards, so this is the moment.
    if range.mayRestore { try await bookkeeping.keepPostponedProtections(range) }
    let last = due.last {
      $0.change.reach.isOwn && !$0.change.reach.fansOut && !$0.change.isRestore
    }
    for each in due where !each.change.isRestore && each.number != last?.number {
      if try await apply(each, range) { hasTouched = true }
      // Once the rows on the way are gone, nobody finds those behind them.
      if !each.change.reach.isDirect { try await verify(each.change, range) }
    }
    let digest = try await bookkeeping.record(range, making: last, hasTouched: hasTouched)
    try await checkConstraints()
    for each in due where !each.change.isRestore && each.change.reach.isDirect {
      try await verify(each.change, range)
    }
    // Rows of further tables may have left records of their own.
    let isDigestOfAll = due.allSatisfy { !$0.change.recordsRows }
    try await ledger.batchApplied(
      of: chunk, number: context.number, after: range.after, through: range.through,
      digest: isDigestOfAll ? digest : nil, on: transaction)
  }

  /// Changes at most `rowsMax` of the rows that one event reaches in one table. The chunk's position
  /// stays: the event is applied with its last row.
  /// - Parameter range: holds this event alone.
  /// - Returns: how many rows were changed.
  func applyPart(of range: EventRange, change index: Int, rowsMax: Int) async throws -> Int {
    try await begin()
    let change = changes[index]
    try await bookkeeping.endProtections(range)
    _ = try await run(
      change.statement(for: range, number: index + 1, in: context, rowsMax: rowsMax), of: change)
    try await checkConstraints()
    try await bookkeeping.keepAllProtections()
    let rows = try await transaction.query(
      "SELECT coalesce(sum(rows), 0)::bigint FROM lethe_touched"
    ).onlyRow(as: Int.self)
    guard rows > 0 else { return 0 }
    // Whatever becomes of the rest, these rows can be restored.
    try await bookkeeping.recordProtections(range)
    try await bookkeeping.recordPart(of: range.through)
    try await ledger.batchApplied(
      of: chunk, number: context.number, after: range.after, through: range.after,
      on: transaction)
    return rows
  }

  /// The rows changed so far, by change, reason: what a plan shows.
  func touched() async throws -> [(change: Int, reason: String, rows: Int)] {
    try await transaction.query(
      "SELECT change, reason::text, sum(rows)::bigint FROM lethe_touched GROUP BY 1, 2"
    ).rows(as: Int.self, String.self, Int.self).map { ($0.0 - 1, $0.1, $0.2) }
  }

  /// Compiling a batch's statement takes longer than running it: 150 ms of 190, for 10,000 rows of a big
  /// table, each time.
  private func begin() async throws {
    _ = try await transaction.query(
      "SELECT set_config('lock_timeout', $1, true), set_config('jit', 'off', true)",
      .text("\(Self.lockTimeoutMilliseconds)ms"))
    // From here on no newer answer can take the place of an event: all statements see the same ones.
    try await ledger.lockChunk(chunk, on: transaction)
  }

  /// - Returns: whether it has changed rows.
  private func apply(_ each: NumberedChange, _ range: EventRange) async throws -> Bool {
    try await run(
      each.change.statement(for: range, number: each.number, in: context), of: each.change) > 0
  }

  /// - Returns: how many events have changed rows.
  private func run(
    _ statement: (sql: String, parameters: [Parameter]), of change: Change
  ) async throws -> Int {
    do {
      return try await transaction.run(statement.sql, statement.parameters).rowsAffected
    } catch let error as PostgreSQLError where !error.isTemporary {
      throw ApplyError(error, chunk, "\(change.label): ")
    }
  }

  /// A constraint that waits for the end of the transaction would speak when it is too late to say what
  /// it was about.
  private func checkConstraints() async throws {
    do {
      try await transaction.execute("SET CONSTRAINTS ALL IMMEDIATE")
    } catch let error as PostgreSQLError where !error.isTemporary {
      throw ApplyError(error, chunk, "")
    }
  }

  /// No row may remain in a state that its event forbids.
  private func verify(_ change: Change, _ range: EventRange) async throws {
    let query = change.remains(of: range, in: context, rowsMax: Self.namedRowsMax)
    let rows = try await transaction.run(query.sql, query.parameters).rows(as: String.self)
    guard !rows.isEmpty else { return }
    throw ApplyError(
      message: """
        \(chunk.label): \(change.label): rows remain as they were: \(rows.joined(separator: "; "))
        """,
      remedy: """
        look for a trigger, a rule or a policy of \(change.reach.table.name) that undoes or skips the \
        change; nothing of this batch was kept
        """, mayPass: true)
  }
}
