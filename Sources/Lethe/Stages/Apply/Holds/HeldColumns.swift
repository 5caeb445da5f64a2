import CrashPoints
import Definitions
import Ledger
import PostgreSQL
import Warehouse

/// Follows renames of the columns and tables that have holds.
///
/// A name that still exists is used unchanged, because many migrations put another column or table in the
/// place of the former one. A name is looked up by the table's OID and the column's attribute number if it is
/// missing, or if it is now the name of another held column that was renamed.
struct HeldColumns {
  let connection: Connection
  let catalog: Catalog

  private var names: HoldNames { HoldNames(connection: connection) }

  /// Records the OIDs and attribute numbers of the columns that protections may set or use as row keys.
  func note(_ plan: ApplyPlan) async throws {
    for change in plan.changes where change.kind.hiding != nil {
      guard let key = change.holdKey, let table = TableName(key.table)
      else { continue }
      try await names.note(key.names + change.kind.columnsSet, of: table.quoted, named: key.table)
    }
  }

  /// Updates the holds, their holders and their keys to the current names.
  func follow() async throws {
    guard !(try await renamedTables()).isEmpty else { return }
    try await connection.withTransaction(recording: .heldNamesFollowed) { transaction in
      // Another process may update the same holds at this moment. If a column now has the former name of another
      // column, a second update would rename it once more.
      try await names.lock(on: transaction)
      for rename in try await renamedTables(on: transaction) {
        try await names.follow(rename, on: transaction)
      }
    }
  }

  typealias RenamedTable = HoldNames.RenamedTable

  /// A name in the holds, and the current name of the same object.
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

  func renamedTables() async throws -> [RenamedTable] {
    try await renamedTables(on: connection)
  }

  private func renamedTables(on session: some Session) async throws -> [RenamedTable] {
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
    var renamedTables: [String: RenamedTable] = [:]
    for row in rows {
      let (table, column, now) = (row.table, row.column, row.tableNow)
      let (columnNow, isDropped) = (row.columnNow, row.isDropped)
      let isMoved = now.written != table
      // In another database cluster, the OID may belong to another table.
      if isMoved {
        guard row.isSameCluster, try await isMovedHere(table, now, session) else { continue }
      }
      var rename = renamedTables[table] ?? RenamedTable(table: table, tableNow: now.written)
      if isDropped || columnNow != column,
        try await catalog.table(resolved: now, on: session)?.columns[column] == nil
      {
        if isDropped { rename.dropped.append(column) } else { rename.columns[column] = columnNow }
      }
      renamedTables[table] = rename
    }
    // If a new name was another held column's former name, that other column has a new name, too. The number
    // of rounds is the longest possible chain of such names.
    for row in rows.flatMap({ _ in rows }) {
      let (table, column) = (row.table, row.column)
      let (columnNow, isDropped) = (row.columnNow, row.isDropped)
      guard renamedTables[table]?.columns.values.contains(column) == true, columnNow != column,
        renamedTables[table]?.columns[column] == nil,
        renamedTables[table]?.dropped.contains(column) == false
      else { continue }
      if isDropped {
        renamedTables[table]?.dropped.append(column)
      } else {
        renamedTables[table]?.columns[column] = columnNow
      }
    }
    return renamedTables.values.filter {
      $0.table != $0.tableNow || !$0.columns.isEmpty || !$0.dropped.isEmpty
    }.sorted { $0.table < $1.table }
  }

  /// Whether no table has the former name, and the definition uses the new name.
  private func isMovedHere(
    _ table: String, _ now: TableName, _ session: some Session
  ) async throws -> Bool {
    guard catalog.holdTables.contains(now), let former = TableName(table) else { return false }
    return try await catalog.table(resolved: former, on: session) == nil
  }
}
