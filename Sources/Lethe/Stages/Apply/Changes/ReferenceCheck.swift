import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Finds foreign keys that prevent a chunk's deletions, before anything is committed.
struct ReferenceCheck {
  let connection: Connection
  let chunk: Chunk
  let context: BatchContext
  let plan: ApplyPlan

  /// The events that delete rows to which other rows refer, at most `eventsMax`. Reports only the first
  /// foreign key that prevents deletions. Empty if there is none.
  func refused(atMost eventsMax: Int) async throws -> [ChunkLedger.Refusal] {
    for (index, change) in plan.changes.enumerated() where change.isDelete {
      let table = change.target.table
      for key in table.references where key.isRestricting {
        // Rows of the same table may be deleted in the same statement.
        let isOwn = key.refers(from: table.name)
        guard isOwn || !plan.isCovered(key, at: index) else { continue }
        let ids = try await blockedEvents(
          key, of: change, excluding: plan.deletes(referringBy: key, at: index), atMost: eventsMax)
        guard ids.isEmpty else {
          return ids.map {
            .init(
              id: $0,
              why: """
                \(change.label): rows of \(key.table) refer to the rows that it deletes \
                (constraint \(key.constraint))
                """,
              remedy: ApplyError.remedy(declaring: "\(key.table)", isOwn: isOwn))
          }
        }
      }
    }
    return []
  }

  private func blockedEvents(
    _ key: WarehouseTable.ForeignKey, of change: Change, excluding deletes: [Change],
    atMost eventsMax: Int
  ) async throws -> [Int64] {
    let range = EventRange(all: chunk)
    let taken = deletes.map { $0.locations(of: range, in: context) }
    let stays: SQL =
      taken.isEmpty
      ? ""
      : """
       AND NOT EXISTS (
      SELECT FROM (\(taken.joined(separator: "\nUNION ALL\n"))) AS taken
      WHERE taken.part = r.tableoid AND taken.place = r.ctid)
      """
    let held = change.matches(
      of: range, in: context,
      andAlso: "EXISTS (SELECT FROM \(key.table.sql) AS r WHERE \(key.equality)\(stays))")
    return try await connection.run(
      "SELECT DISTINCT id FROM (\(held)) AS held ORDER BY id LIMIT \(literal: eventsMax)"
    ).rows(as: Int64.self)
  }
}

/// Finds foreign keys between rows that two events of the chunk delete. The referring row and the referenced row
/// must then be deleted in one transaction.
struct CrossReferences {
  let connection: Connection
  let context: BatchContext
  let plan: ApplyPlan

  /// Extends a range until no row of a later event refers to a row in it.
  func closed(_ range: EventRange, of chunk: Chunk) async throws -> EventRange {
    var range = range
    var isClosed = false
    while !isClosed {
      isClosed = true
      for (index, change) in plan.changes.enumerated() where change.isDelete {
        for key in plan.crossing(at: index) {
          guard let later = try await lastReferrer(key, of: change, index, range, chunk) else {
            continue
          }
          range = EventRange(chunkID: range.chunkID, after: range.after, through: later)
          isClosed = false
        }
      }
    }
    return range
  }

  /// The last event after the range that deletes a row that refers to a row in the range.
  private func lastReferrer(
    _ key: WarehouseTable.ForeignKey, of change: Change, _ index: Int, _ range: EventRange,
    _ chunk: Chunk
  ) async throws -> Int64? {
    let rest = EventRange(chunkID: range.chunkID, after: range.through, through: chunk.lastID)
    let later = plan.deletes(referringBy: key, at: index).map {
      $0.locations(of: rest, in: context)
    }
    let held = change.matches(of: range, in: context, andAlso: key.equality)
    return try await connection.run(
      """
      SELECT max(later.id) FROM (\(later.joined(separator: "\nUNION ALL\n"))) AS later
      JOIN \(key.table.sql) AS r ON r.tableoid = later.part AND r.ctid = later.place
      WHERE EXISTS (\(held))
      """
    ).onlyRow(as: Int64?.self)
  }
}
