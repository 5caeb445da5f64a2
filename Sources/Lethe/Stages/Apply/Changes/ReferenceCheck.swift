import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Foreign keys that would hold rows which a chunk deletes, found before anything is committed.
struct ReferenceCheck {
  let connection: Connection
  let chunk: Chunk
  let context: BatchContext
  let changes: [Change]

  /// The events that delete rows which others refer to, by the first foreign key that holds some of them:
  /// at most `eventsMax`. None if no key holds anything.
  func refused(atMost eventsMax: Int) async throws -> [ChunkLedger.Refusal] {
    for (index, change) in changes.enumerated() where change.isDelete {
      let table = change.reach.table
      for key in table.references where key.isRestricting {
        // Rows of the same table may go in the same statement.
        let isOwn = key.refers(from: table.name)
        let takers = isOwn ? changes[...index] : changes[..<index]
        guard isOwn || !takers.contains(where: { $0.takesAll(of: key, before: change) }) else {
          continue
        }
        let ids = try await heldEvents(key, of: change, besides: Array(takers), atMost: eventsMax)
        guard ids.isEmpty else {
          return ids.map {
            .init(
              id: $0,
              why: """
                \(change.label): rows of \(key.table) refer to what it deletes \
                (constraint \(key.constraint))
                """,
              remedy: ApplyError.remedy(declaring: "\(key.table)", isOwn: isOwn))
          }
        }
      }
    }
    return []
  }

  private func heldEvents(
    _ key: WarehouseTable.ForeignKey, of change: Change, besides takers: [Change],
    atMost eventsMax: Int
  ) async throws -> [Int64] {
    let range = EventRange(chunkID: chunk.id, after: chunk.firstID - 1, through: chunk.lastID)
    let taken = takers.filter { $0.takes(from: key) }
      .map { $0.places(of: range, in: context) }
    let stays: SQL =
      taken.isEmpty
      ? ""
      : """
       AND NOT EXISTS (
      SELECT FROM (\(taken.joined(separator: "\nUNION ALL\n"))) AS taken
      WHERE taken.part = r.tableoid AND taken.place = r.ctid)
      """
    let held = change.hits(
      of: range, in: context,
      andAlso: "EXISTS (SELECT FROM \(key.table.sql) AS r WHERE \(key.equality)\(stays))")
    return try await connection.run(
      "SELECT DISTINCT id FROM (\(held)) AS held ORDER BY id LIMIT \(literal: eventsMax)"
    ).rows(as: Int64.self)
  }
}

/// Rows that refer to rows which another event of the chunk takes: those have to go in one transaction.
struct CrossReferences {
  let connection: Connection
  let context: BatchContext
  let changes: [Change]

  /// A range that is as long as it has to be, so that no row in it is held by one that goes later.
  func closed(_ range: EventRange, of chunk: Chunk) async throws -> EventRange {
    var range = range
    var isClosed = false
    while !isClosed {
      isClosed = true
      for (index, change) in changes.enumerated() where change.isDelete {
        for key in changes.crossing(at: index) {
          guard let later = try await lastHolder(key, of: change, index, range, chunk) else {
            continue
          }
          range = EventRange(chunkID: range.chunkID, after: range.after, through: later)
          isClosed = false
        }
      }
    }
    return range
  }

  /// The last event after the range that takes a row which refers to one that goes within it.
  private func lastHolder(
    _ key: WarehouseTable.ForeignKey, of change: Change, _ index: Int, _ range: EventRange,
    _ chunk: Chunk
  ) async throws -> Int64? {
    let rest = EventRange(chunkID: range.chunkID, after: range.through, through: chunk.lastID)
    let later = changes[...index].filter { $0.takes(from: key) }
      .map { $0.places(of: rest, in: context) }
    let held = change.hits(of: range, in: context, andAlso: key.equality)
    return try await connection.run(
      """
      SELECT max(later.id) FROM (\(later.joined(separator: "\nUNION ALL\n"))) AS later
      JOIN \(key.table.sql) AS r ON r.tableoid = later.part AND r.ctid = later.place
      WHERE EXISTS (\(held))
      """
    ).onlyRow(as: Int64?.self)
  }
}

extension WarehouseTable.ForeignKey {
  /// The condition that a row `r` refers to a row `t`.
  var equality: SQL {
    zip(columns, referencedColumns).enumerated().map { index, pair -> SQL in
      let sign: SQL = isOfPeriods && index == columns.count - 1 ? "&&" : "="
      return "r.\(identifier: pair.0) \(sign) t.\(identifier: pair.1)"
    }
    .joined(separator: " AND ")
  }
}

extension [Change] {
  /// The foreign keys at what a change deletes whose referring rows an event may take that comes later than
  /// the one which deletes what they refer to.
  func crossing(at index: Int) -> [WarehouseTable.ForeignKey] {
    let change = self[index]
    return change.reach.table.references.filter { key in
      guard key.isRestricting else { return false }
      if key.refers(from: change.reach.table.name) { return true }
      let takers = self[..<index].filter { $0.takes(from: key) }
      return !takers.isEmpty && !takers.contains { $0.takesAll(of: key, before: change) }
    }
  }
}

extension Change {
  /// Whether it deletes rows of the table that a foreign key is of.
  fileprivate func takes(from key: WarehouseTable.ForeignKey) -> Bool {
    isDelete && key.refers(from: reach.table.name)
  }

  /// Whether it deletes every row that refers to what a later change deletes: it is for the same
  /// reasons, and reaches its rows by the key, from the same ID or from the later change's table.
  fileprivate func takesAll(
    of key: WarehouseTable.ForeignKey, before later: Change
  ) -> Bool {
    guard takes(from: key), Set(later.reasons).isSubset(of: reasons),
      key.columns == [reach.match.name], let referred = key.referencedColumns.first
    else { return false }
    let way = reach.steps.map(\.names)
    let laterWay = later.reach.steps.map(\.names)
    let table = later.reach.table.name
    // Values that a key compares as they are, one side alone may have normalized.
    if way == laterWay, later.reach.match.name == referred {
      return reach.match.isNormalized == later.reach.match.isNormalized
    }
    return reach.steps.last?.id.isNormalized == reach.match.isNormalized
      && way == laterWay + [Reach.Step.Names(table, later.reach.match, referred)]
  }
}

extension Reach.Step {
  fileprivate struct Names: Equatable {
    let table: TableName
    let match: String
    let isMatchNormalized: Bool
    let id: String

    init(_ table: TableName, _ match: IDExpression, _ id: String) {
      (self.table, self.match, isMatchNormalized) = (table, match.name, match.isNormalized)
      self.id = id
    }
  }

  fileprivate var names: Names { Names(table.name, match, id.name) }
}
