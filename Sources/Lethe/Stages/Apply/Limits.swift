import Definitions
import Foundation
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Checks, before any row is changed, whether the chunk's changes exceed the limits.
struct LimitCheck {
  let connection: Connection
  let ledger: ChunkLedger
  let limits: RedactionLimits
  let context: BatchContext
  let counts: [ChunkLedger.EventCounts]

  /// What the events of a chunk would change for one reason.
  private struct Extent {
    var ids = 0
    var rows = 0
    /// The number of IDs whose own rows would be deleted or redacted.
    var removedIDs = 0
  }

  /// Rows that are already in the wanted state do not count, because every result repeats what earlier runs have
  /// redacted.
  /// - Returns: why a limit stops the chunk. Nil if no limit stops it.
  func reasonToStop(_ chunk: Chunk, _ plan: ApplyPlan) async throws -> String? {
    if let extent = try await ledger.restoreExtent(
      of: chunk, excluding: context.protecting), let why = reasonToStop(extent)
    {
      return why
    }
    let before = try await ledger.rowsRedactedWithoutApproval(in: chunk.runID)
    if let extents = Self.largestExtents(counts.currentByReason, plan.changes),
      reasonToStop(chunk, extents, plan, before: before) == nil
    {
      return nil
    }
    let extents = try await extents(of: chunk, plan.changes)
    if !limits.allowsWholeChunks, extents.values.contains(where: { $0.removedIDs > 0 }),
      eventsThatRemove(plan.own) == chunk.ids
    {
      return wholeChunk(chunk, plan)
    }
    return reasonToStop(chunk, extents, plan, before: before)
  }

  /// The smallest number of released IDs for which the percentage is compared with its limit. With fewer IDs, a
  /// percentage says little.
  private static let releasedIDsMin = 20

  /// If a result would restore many of the hidden rows, the cause is probably a fault of the API.
  private func reasonToStop(_ extent: ChunkLedger.RestoreExtent) -> String? {
    let percent = 100 * Double(extent.releasedIDs) / Double(max(extent.holdingIDs, 1))
    if extent.releasedIDs >= Self.releasedIDsMin, percent > limits.maxRestoredPercent {
      return """
        it would release \(extent.releasedIDs) of the \(extent.holdingIDs) IDs of its key range that hold \
        rows, \(String(format: "%.1f", percent)) %; max_restored_percent is \
        \(limits.maxRestoredPercent.formatted())
        """
    }
    if extent.rows > 0, extent.rowsBefore + extent.rows > limits.maxRestoredRows {
      return """
        with it the run would restore \(extent.rowsBefore + extent.rows) rows; \
        max_restored_rows is \(limits.maxRestoredRows)
        """
    }
    return nil
  }

  /// The number of IDs with an answer that removes them, whether or not their rows still exist.
  private func eventsThatRemove(_ changes: [Change]) -> Int {
    let reasons = changes.filter(\.kind.isRemoving).flatMap(\.reasons)
    return counts.reduce(0) { $0 + (reasons.contains($1.reason) ? $1.current : 0) }
  }

  private func wholeChunk(_ chunk: Chunk, _ plan: ApplyPlan) -> String {
    let actions = Set(
      plan.own.filter { eventsThatRemove([$0]) > 0 }.map(\.action)
    ).sorted().joined(separator: " or ")
    return """
      it would \(actions) every one of its \(chunk.ids) IDs, which no real result does; \
      limits.allow_whole_chunks is false
      """
  }

  private func reasonToStop(
    _ chunk: Chunk, _ extents: [String: Extent], _ plan: ApplyPlan, before: [String: Int]
  ) -> String? {
    if !limits.allowsWholeChunks {
      let removed = extents.values.reduce(0) { $0 + $1.removedIDs }
      if removed == chunk.ids { return wholeChunk(chunk, plan) }
    }
    let whole = Extent(
      ids: extents.values.reduce(0) { $0 + $1.ids },
      rows: extents.values.reduce(0) { $0 + $1.rows })
    if let why = reason(
      "", whole, chunk, before: before.values.reduce(0, +),
      ReasonLimits(
        maxRedactedPercent: limits.maxRedactedPercent, maxRedactedRows: limits.maxRedactedRows))
    {
      return why
    }
    for (reason, limit) in limits.reasons.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      let extent = extents[reason.rawValue] ?? Extent()
      if let why = self.reason(
        reason.rawValue, extent, chunk, before: before[reason.rawValue] ?? 0, limit)
      {
        return why
      }
    }
    return nil
  }

  private func reason(
    _ reason: String, _ extent: Extent, _ chunk: Chunk, before: Int, _ limit: ReasonLimits
  ) -> String? {
    let (what, key) = reason.isEmpty ? ("", "") : (" for \(reason)", "reasons.\(reason).")
    let percent = 100 * Double(extent.ids) / Double(chunk.ids)
    if let percentMax = limit.maxRedactedPercent, percent > percentMax {
      return """
        it would redact \(extent.ids) of its \(chunk.ids) IDs\(what), \
        \(String(format: "%.1f", percent)) %; \(key)max_redacted_percent is \(percentMax.formatted())
        """
    }
    if let rowsMax = limit.maxRedactedRows, extent.rows > 0, before + extent.rows > rowsMax {
      return """
        with it the run would redact \(before + extent.rows) rows\(what); \
        \(key)max_redacted_rows is \(rowsMax)
        """
    }
    return nil
  }

  /// The largest possible extents, by reason: every event still has to change its rows. They can be calculated
  /// without the warehouse if each event reaches at most one row of each table. Nil if an event can reach many
  /// rows of a table.
  private static func largestExtents(
    _ events: [String: Int], _ changes: [Change]
  ) -> [String: Extent]? {
    let redacting = changes.filter(\.kind.isRedacting)
    guard redacting.allSatisfy({ !$0.target.fansOut }) else { return nil }
    return events.reduce(into: [:]) { extents, counted in
      let changes = redacting.filter { $0.reasons.contains(counted.key) }
      guard !changes.isEmpty else { return }
      extents[counted.key] = Extent(
        ids: counted.value, rows: counted.value * changes.count,
        removedIDs: changes.contains { $0.kind.isRemoving && $0.target.isOwn } ? counted.value : 0)
    }
  }

  private func extents(of chunk: Chunk, _ changes: [Change]) async throws -> [String: Extent] {
    let range = EventRange(all: chunk)
    let matches = changes.filter(\.kind.isRedacting).map { change in
      """
      SELECT id, reason, \(change.kind.isRemoving && change.target.isOwn)::boolean AS is_removed
      FROM (\(change.matches(of: range, in: context))) AS m
      """ as SQL
    }
    guard !matches.isEmpty else { return [:] }
    let rows = try await connection.run(
      """
      SELECT reason::text, count(*), sum(rows)::bigint, count(*) FILTER (WHERE is_removed)
      FROM (SELECT id, reason, count(*) AS rows, bool_or(is_removed) AS is_removed
            FROM (\(matches.joined(separator: "\nUNION ALL\n"))) AS matching GROUP BY id, reason) AS by_id
      GROUP BY reason
      """
    ).rows(as: String.self, Int.self, Int.self, Int.self)
    return Dictionary(
      uniqueKeysWithValues: rows.map { ($0.0, Extent(ids: $0.1, rows: $0.2, removedIDs: $0.3)) })
  }
}

extension [ChunkLedger.EventCounts] {
  /// The numbers of events that no newer answer has superseded.
  fileprivate var currentByReason: [String: Int] {
    reduce(into: [:]) { $0[$1.reason, default: 0] += $1.current }
  }
}
