public import Definitions
public import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// What applying a chunk would do.
public struct ChunkPlan: Sendable, Equatable {
  /// Why a limit would stop it; nil if it would go on.
  public let stopReason: String?
  /// In the order of the changes.
  public let rows: [PlannedRows]
  /// What the warehouse would refuse, and why; those events are not among the rows.
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
  /// Carries apply's own transactions out, batch by batch, and rolls each back. No lock outlives its
  /// batch, and so a row that events of two batches reach is counted for each.
  ///
  /// An event that reaches more rows than a transaction may hold is counted only.
  /// - Throws: as `apply` does; nothing is changed.
  public func plan(_ chunk: Chunk, dataset: Dataset) async throws -> ChunkPlan {
    var work = try await work(on: chunk, dataset)
    let stopReason = chunk.isApproved ? nil : try await reasonToStop(work)
    let referredTo = try await referredTo(work)
    var refusals = referredTo.map { "the event of ID \($0.id): \($0.why)" }
    try await connection.execute("SELECT lethe.ensure_event_partitions(now())")
    try await connection.runScript(Bookkeeping.scratchTables)
    var totals: [PlanKey: Int] = [:]
    var through = chunk.appliedThrough ?? chunk.firstID - 1
    while let range = try await nextRange(after: through, &work) {
      do {
        let touched =
          work.isOversize
          ? try await count(range, work)
          : try await tryOut(range, without: referredTo.map(\.id), work)
        for (key, rows) in touched { totals[key, default: 0] += rows }
      } catch {
        guard let refusal = ApplyError(refusing: chunk, error) else { throw error }
        refusals.append(
          """
          one of the events of IDs \(range.after + 1) to \(range.through), whose rows are not counted: \
          \(refusal.message(within: chunk))
          """)
      }
      through = range.through
    }
    return ChunkPlan(
      stopReason: stopReason,
      rows: totals.sorted { ($0.key.change, $0.key.reason) < ($1.key.change, $1.key.reason) }.map {
        let change = work.changes[$0.key.change]
        return PlannedRows(
          table: "\(change.reach.table.name)", action: change.action, reason: $0.key.reason,
          rows: $0.value)
      }, refusals: refusals)
  }

  private func referredTo(_ work: Work) async throws -> [ChunkLedger.Refusal] {
    try await ReferenceCheck(
      connection: connection, chunk: work.chunk, context: work.context, changes: work.changes
    ).refused(atMost: ChunkLedger.refusalsMax)
  }

  struct PlanKey: Hashable {
    /// The change's place in the order.
    let change: Int
    let reason: String
  }

  /// Ends a transaction whose effect has been seen.
  private struct RolledBack: Error {
    let touched: [PlanKey: Int]
  }

  private func tryOut(
    _ range: EventRange, without refused: [Int64], _ work: Work
  ) async throws -> [PlanKey: Int] {
    try await retrying(work.chunk) {
      do {
        return try await connection.withTransaction { transaction -> [PlanKey: Int] in
          try await ledger.leaveOut(refused, of: work.chunk, on: transaction)
          try await ledger.stand(work.chunk, after: range.after, on: transaction)
          let batch = batch(work, transaction)
          try await batch.apply(range)
          let touched = try await batch.touched().map {
            (PlanKey(change: $0.change, reason: $0.reason), $0.rows)
          }
          throw RolledBack(touched: Dictionary(uniqueKeysWithValues: touched))
        }
      } catch let rolledBack as RolledBack {
        return rolledBack.touched
      }
    }
  }

  private func count(_ range: EventRange, _ work: Work) async throws -> [PlanKey: Int] {
    var counts: [PlanKey: Int] = [:]
    for (index, change) in work.changes.enumerated() {
      var bound = BoundStatement()
      let hits = change.hits(of: range, in: work.context, &bound)
      let rows = try await connection.run(
        "SELECT reason::text, count(*) FROM (\(hits)) AS hit GROUP BY reason", bound.parameters
      ).rows(as: String.self, Int.self)
      for (reason, rows) in rows { counts[PlanKey(change: index, reason: reason)] = rows }
    }
    return counts
  }
}
