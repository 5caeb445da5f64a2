public import Definitions
public import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// What applying a chunk would do.
public struct ChunkPlan: Sendable, Equatable {
  /// Why a limit would stop the chunk. Nil if no limit would stop it.
  public let stopReason: String?
  /// The rows that the chunk would change, in the order of the changes.
  public let rows: [PlannedRows]
  /// The numbers that are compared with the limits for restores. Nil if the chunk releases no ID.
  public let restores: ChunkLedger.RestoreExtent?
  /// Why the warehouse would refuse events. Each text names an event, or a range of IDs with a refused event. The rows
  /// of such a range are not counted. The rows of such an event are counted only if they are too many for one
  /// transaction.
  public let refusals: [String]
}

/// Rows of a table that one action would change for one reason.
public struct PlannedRows: Sendable, Equatable {
  public let table: String
  public let action: String
  public let reason: String
  public let rows: Int
}

extension ApplyStage {
  /// Runs apply's own transactions, batch by batch, and rolls each back. Each batch releases its locks before
  /// the next. If events of two batches reach the same row, the row is counted twice.
  ///
  /// For an event that reaches more rows than a transaction may change, the rows are only counted. No row is changed.
  /// - Throws: `PlanError` if the tables no longer fit the definition; `LedgerError` if the chunk's events are missing;
  ///   `PostgreSQLError`.
  public func plan(_ chunk: Chunk, dataset: Dataset) async throws -> ChunkPlan {
    var work = try await work(on: chunk, dataset)
    let restores = try await ledger.restoreExtent(of: chunk, excluding: work.context.protecting)
    let stopReason = chunk.isApproved ? nil : try await reasonToStop(work)
    let referenced = try await referencedEvents(work)
    var refusals = referenced.map { "the event of ID \($0.id): \($0.why)" }
    // Within a batch, the new partitions would lock out other pipelines until the batch is rolled back.
    try await connection.execute("SELECT lethe.ensure_event_partitions(now())")
    try await connection.runScript(ScratchTables.ofBatches)
    var totals: [TouchedRows: Int] = [:]
    var through = chunk.appliedThrough ?? chunk.firstID - 1
    while let range = try await nextRange(after: through, &work) {
      do {
        let touched =
          work.isOversize
          ? try await count(range, work)
          : try await tryOut(range, without: referenced.map(\.id), work)
        for (key, rows) in touched { totals[key, default: 0] += rows }
      } catch {
        guard let refusal = ApplyError(refusing: chunk, error) else { throw error }
        refusals.append(
          """
          one of the events of IDs \(range.after + 1) to \(range.through) (their rows are not counted): \
          \(refusal.message)
          """)
      }
      through = range.through
    }
    return ChunkPlan(
      stopReason: stopReason,
      rows: work.inOrder(totals).map {
        PlannedRows(table: $0.table, action: $0.action, reason: $0.reason, rows: totals[$0] ?? 0)
      }, restores: restores, refusals: refusals)
  }

  private func referencedEvents(_ work: Work) async throws -> [ChunkLedger.Refusal] {
    try await ReferenceCheck(
      connection: connection, chunk: work.chunk, context: work.context, plan: work.plan
    ).refused(atMost: ChunkLedger.refusalsMax)
  }

  /// An error that rolls back a transaction after its effect was examined.
  private struct RolledBack: Error {
    let touched: [TouchedRows: Int]
  }

  private func tryOut(
    _ range: EventRange, without refused: [Int64], _ work: Work
  ) async throws -> [TouchedRows: Int] {
    try await retrying(work.chunk) {
      do {
        return try await connection.withTransaction { transaction -> [TouchedRows: Int] in
          try await ledger.leaveOut(refused, of: work.chunk, on: transaction)
          try await ledger.setPosition(work.chunk, after: range.after, on: transaction)
          let batch = batch(work, transaction)
          try await batch.apply(range)
          throw RolledBack(touched: try await batch.touched())
        }
      } catch let rolledBack as RolledBack {
        return rolledBack.touched
      }
    }
  }

  private func count(_ range: EventRange, _ work: Work) async throws -> [TouchedRows: Int] {
    var counts: [TouchedRows: Int] = [:]
    for change in work.plan.changes {
      let matches = change.matches(of: range, in: work.context)
      let rows = try await connection.run(
        "SELECT reason::text, count(*) FROM (\(matches)) AS matching GROUP BY reason"
      ).rows(as: String.self, Int.self)
      for (reason, rows) in rows {
        let touched = TouchedRows(
          action: change.action, table: "\(change.target.table.name)", reason: reason)
        counts[touched, default: 0] += rows
      }
    }
    return counts
  }
}

extension ApplyStage.Work {
  /// The rows in the order of the changes. Rows that do not belong to a change, such as restored rows of holds,
  /// come first.
  func inOrder(_ rows: [TouchedRows: Int]) -> [TouchedRows] {
    func place(_ touched: TouchedRows) -> Int {
      plan.changes.firstIndex {
        $0.action == touched.action && "\($0.target.table.name)" == touched.table
      } ?? -1
    }
    return rows.keys.sorted {
      (place($0), $0.table, $0.reason) < (place($1), $1.table, $1.reason)
    }
  }
}
