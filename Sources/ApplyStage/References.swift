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

  /// - Throws: `ApplyError` naming the constraint and the table to declare.
  func run() async throws {
    let range = EventRange(chunkID: chunk.id, after: chunk.firstID - 1, through: chunk.lastID)
    for (index, change) in changes.enumerated() where change.isDelete {
      for key in change.reach.table.references
      where key.isRestricting && !isDeclared(key, for: change, before: index) {
        try await requireNoReference(key, to: change, range)
      }
    }
  }

  /// Whether an earlier change takes the referring rows away for every one of the reasons. A key of a
  /// table on itself can't be judged here: the rows that refer may go in the same statement.
  private func isDeclared(
    _ key: WarehouseTable.ForeignKey, for change: Change, before index: Int
  ) -> Bool {
    if Self.isSame(key.table, change.reach.table.name) { return true }
    let covered = changes[..<index]
      .filter { $0.isDelete && Self.isSame(key.table, $0.reach.table.name) }
      .flatMap(\.reasons)
    return Set(change.reasons).isSubset(of: covered)
  }

  private func requireNoReference(
    _ key: WarehouseTable.ForeignKey, to change: Change, _ range: EventRange
  ) async throws {
    var bound = BoundStatement()
    let equalities = zip(key.columns, key.referencedColumns).map {
      "r.\(Identifier($0).sql) = t.\(Identifier($1).sql)"
    }
    let rows = try await connection.run(
      change.hits(
        of: range, in: context, &bound,
        andAlso:
          "EXISTS (SELECT FROM \(key.table.sql) AS r WHERE \(equalities.joined(separator: " AND ")))"
      ) + "\nLIMIT 1", bound.parameters
    ).rows(as: Int64.self, String.self)
    guard let row = rows.first else { return }
    throw ApplyError(
      message: """
        \(chunk.label): \(change.label): rows of \(key.table) refer to what the event of ID \(row.0) \
        (\(row.1)) deletes (constraint \(key.constraint)); nothing was applied
        """,
      remedy: ApplyError.remedy(declaring: "\(key.table)"))
  }

  /// The catalog always has the schema; a definition may leave it out.
  private static func isSame(_ table: TableName, _ declared: TableName) -> Bool {
    table.name == declared.name && (declared.schema == nil || table.schema == declared.schema)
  }
}
