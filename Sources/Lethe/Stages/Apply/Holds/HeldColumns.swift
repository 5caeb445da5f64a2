import Definitions
import Ledger
import PostgreSQL
import Warehouse

/// Follows renames of the columns and tables that have holds.
///
/// A name that still exists is taken as it is, because many migrations put another column or table in the
/// place of the former one. Only for a missing name is the object looked up by PostgreSQL's own numbers.
struct HeldColumns {
  let connection: Connection
  let catalog: Catalog

  private var names: HoldNames { HoldNames(connection: connection) }

  /// Records PostgreSQL's numbers for the columns that the changes may hide or use as row keys.
  func note(_ plan: ApplyPlan) async throws {
    for change in plan.changes where change.kind.hiding != nil {
      guard let key = change.holdKey, let table = TableName(key.table)
      else { continue }
      try await names.note(key.names + change.kind.columnsSet, of: table.quoted, named: key.table)
    }
  }

  /// Updates the holds, and what belongs to them, to the present names.
  func follow() async throws {
    guard !(try await moves()).isEmpty else { return }
    try await connection.withTransaction { transaction in
      // Another chunk may follow the same names at this moment. If columns have swapped names, following them
      // twice would be wrong.
      try await names.lock(on: transaction)
      for move in try await moves(on: transaction) { try await names.follow(move, on: transaction) }
    }
  }

  typealias Move = HoldNames.Move

  /// A name in the holds, and the present name of the same object.
  private struct HeldName {
    let table: String
    let column: String
    let tableNow: TableName
    let columnNow: String
    let isDropped: Bool
    let isSameCluster: Bool

    init(_ row: Row) throws {
      table = try row["table_name"]
      column = try row["column_name"]
      tableNow = TableName(schema: try row["nspname"], name: try row["relname"])
      columnNow = try row["attname"]
      isDropped = try row["attisdropped"]
      isSameCluster = try row["is_same_cluster"]
    }
  }

  func moves() async throws -> [Move] {
    try await moves(on: connection)
  }

  private func moves(on session: some Session) async throws -> [Move] {
    let rows = try await session.query(
      """
      SELECT h.table_name, h.column_name, n.nspname, c.relname, a.attname, a.attisdropped,
             h.cluster IS NOT NULL AND h.cluster = lethe.cluster() AS is_same_cluster
      FROM lethe.held_column AS h
      JOIN pg_catalog.pg_class AS c ON c.oid = h.relation
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = h.relation AND a.attnum = h.attribute
      WHERE h.cluster IS NULL OR h.cluster = lethe.cluster()
      ORDER BY 1, 2
      """
    ).rows.map { try HeldName($0) }
    var moves: [String: Move] = [:]
    for row in rows {
      let (table, column, now) = (row.table, row.column, row.tableNow)
      let (columnNow, isDropped) = (row.columnNow, row.isDropped)
      let isMoved = now.written != table
      // In another cluster, the number may belong to another table.
      if isMoved {
        guard row.isSameCluster, try await isMovedHere(table, now, session) else { continue }
      }
      var move = moves[table] ?? Move(table: table, tableNow: now.written)
      if isDropped || columnNow != column,
        try await catalog.table(resolved: now, on: session)?.columns[column] == nil
      {
        if isDropped { move.dropped.append(column) } else { move.renamed[column] = columnNow }
      }
      moves[table] = move
    }
    // If a new name was another held column's former name, that other column has a new name, too. The number
    // of rounds is the longest possible chain of such names.
    for row in rows.flatMap({ _ in rows }) {
      let (table, column) = (row.table, row.column)
      let (columnNow, isDropped) = (row.columnNow, row.isDropped)
      guard moves[table]?.renamed.values.contains(column) == true, columnNow != column,
        moves[table]?.renamed[column] == nil, moves[table]?.dropped.contains(column) == false
      else { continue }
      if isDropped {
        moves[table]?.dropped.append(column)
      } else {
        moves[table]?.renamed[column] = columnNow
      }
    }
    return moves.values.filter {
      $0.table != $0.tableNow || !$0.renamed.isEmpty || !$0.dropped.isEmpty
    }.sorted { $0.table < $1.table }
  }

  /// Whether no table has the former name, and the definition uses the new one.
  private func isMovedHere(
    _ table: String, _ now: TableName, _ session: some Session
  ) async throws -> Bool {
    guard catalog.holdTables.contains(now), let former = TableName(table) else { return false }
    return try await catalog.table(resolved: former, on: session) == nil
  }
}
