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
    for (index, change) in changes.enumerated() where change.isRestore {
      try await apply(change, index, range)
      try await verify(change, range)
    }
    // What other changes write below looks like Lethe's own row afterwards, so this is the moment.
    try await bookkeeping.keepPostponedProtections(range)
    for (index, change) in changes.enumerated() where !change.isRestore {
      try await apply(change, index, range)
      // Once the rows on the way are gone, nobody finds those behind them.
      if !change.reach.isDirect { try await verify(change, range) }
    }
    try await checkConstraints()
    for change in changes where !change.isRestore && change.reach.isDirect {
      try await verify(change, range)
    }
    try await bookkeeping.record(range)
    try await ledger.batchApplied(
      of: chunk, number: context.number, after: range.after, through: range.through,
      on: transaction)
  }

  /// Changes at most `rowsMax` of the rows that one event reaches in one table. The chunk's position
  /// stays: the event is applied with its last row.
  /// - Parameter range: holds this event alone.
  /// - Returns: how many rows were changed.
  func applyPart(of range: EventRange, change index: Int, rowsMax: Int) async throws -> Int {
    try await begin()
    let change = changes[index]
    try await bookkeeping.endProtections(range)
    try await run(
      change.statement(for: range, number: index + 1, in: context, rowsMax: rowsMax), of: change)
    try await checkConstraints()
    try await bookkeeping.keepAllProtections()
    let rows = try await transaction.query(
      "SELECT coalesce(sum(rows), 0)::bigint FROM lethe_touched"
    ).onlyRow(as: Int.self)
    guard rows > 0 else { return 0 }
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

  private func begin() async throws {
    try await transaction.execute("SET LOCAL lock_timeout = \(Self.lockTimeoutMilliseconds)")
  }

  private func apply(_ change: Change, _ index: Int, _ range: EventRange) async throws {
    try await run(change.statement(for: range, number: index + 1, in: context), of: change)
  }

  private func run(
    _ statement: (sql: String, parameters: [Parameter]), of change: Change
  ) async throws {
    do {
      _ = try await transaction.run(statement.sql, statement.parameters)
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
