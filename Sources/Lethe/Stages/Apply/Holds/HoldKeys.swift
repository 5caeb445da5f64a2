import Definitions
import Foundation
import Ledger
public import PostgreSQL
public import Warehouse

/// Keeps `lethe.hold` up to date if a table or a column is renamed, if a table gets another key or becomes a partition,
/// or if rows that Lethe did not delete no longer exist.
public struct HoldKeys: Sendable {
  private let connection: Connection
  private let catalog: Catalog

  public init(connection: Connection, catalog: Catalog) {
    self.connection = connection
    self.catalog = catalog
  }

  private var names: HoldNames { HoldNames(connection: connection) }

  // MARK: Changed keys

  /// Changes the row keys in the holds to the current keys of the tables. If a hold's row can no longer be
  /// identified, the hold keeps its key and waits.
  func bringUpToDate(_ plan: ApplyPlan) async throws {
    let columns = HeldColumns(connection: connection, catalog: catalog)
    try await columns.follow()
    try await columns.note(plan)
    let all = try await names.known()
    guard !all.isEmpty else { return }
    var seen: Set<String> = []
    for change in plan.changes {
      guard let key = change.holdKey, seen.insert(key.table).inserted else { continue }
      let names = [key.table, change.target.table.resolvedName.written]
      let former = all.filter {
        names.contains($0.table) && !($0.table == key.table && $0.columns == key.names)
      }
      for each in former { try await rename(each, key, change.target.table) }
    }
  }

  private func rename(
    _ former: HoldNames.Key, _ key: HoldKey, _ table: WarehouseTable
  ) async throws {
    guard former.columns.allSatisfy({ table.columns[$0] != nil }),
      let whole = TableName(key.table)
    else { return }
    @Sendable func isRow(_ alias: SQL) -> SQL {
      former.columns.compactMap { name in
        table.columns[name].map {
          "\(alias).\($0.sql) = (h.row_key ->> \(literal: name))::\($0.typeSQL)" as SQL
        }
      }.joined(separator: " AND ")
    }
    try await names.rename(
      former, to: .init(table: key.table, columns: key.names), rows: whole.sql,
      key: key.json(of: "t"),
      isRow: isRow)
  }

  // MARK: Missing tables

  /// Updates the holds to the current names of their columns and tables.
  public func followNames() async throws {
    try await HeldColumns(connection: connection, catalog: catalog).follow()
  }

  /// The tables that have holds whose rows cannot be found, because the table does not exist, a column of the key
  /// or a column that was set is missing, or row-level security may hide rows. A table that was only renamed
  /// is not included, because the next run follows the new name.
  public func tablesWithUnreachableRows() async throws -> [String] {
    let renamedTables = try await HeldColumns(connection: connection, catalog: catalog)
      .renamedTables()
    var tables: [String] = []
    for known in try await names.known() where !tables.contains(known.table) {
      if let rename = renamedTables.first(where: { $0.table == known.table }),
        known.columns.allSatisfy({ !rename.dropped.contains($0) })
      {
        continue
      }
      let table: WarehouseTable? =
        if let name = TableName(known.table) {
          try await catalog.table(resolved: name, on: connection)
        } else { nil }
      if let table, !table.mayHideRows,
        known.columns.allSatisfy({ table.columns[$0] != nil }),
        try await held(of: known.table).allSatisfy({ table.columns[$0] != nil })
      {
        continue
      }
      let hasHolds = try await connection.query(
        "SELECT EXISTS (SELECT FROM lethe.hold WHERE table_name = \(known.table))"
      ).onlyRow(as: Bool.self)
      if hasHolds { tables.append(known.table) }
    }
    return tables
  }

  private func held(of table: String) async throws -> [String] {
    try await connection.query(
      """
      SELECT DISTINCT pg_catalog.jsonb_object_keys(set_to) FROM lethe.hold WHERE table_name = \(table)
      """
    ).rows(as: String.self)
  }

  // MARK: Missing rows

  /// Ends holds of rows that no longer exist, for example because a foreign key's cascade deleted them.
  /// Leaves out tables that cannot be read completely or that lack a key column.
  public func endHoldsOfLostRows() async throws {
    for known in try await names.known() {
      guard let name = TableName(known.table),
        let table = try await catalog.table(resolved: name, on: connection),
        known.columns.allSatisfy({ table.columns[$0] != nil }), !table.mayHideRows
      else { continue }
      let isRow = known.columns.compactMap { name in
        table.columns[name].map {
          "t.\($0.sql) = (h.row_key ->> \(literal: name))::\($0.typeSQL)" as SQL
        }
      }.joined(separator: " AND ")
      let now = HoldKey(table)
      do {
        try await names.endHoldsOfLostRows(
          known, rows: table.resolvedName.sql, isRow: isRow,
          isFormer: now.map { $0.table != known.table || $0.names != known.columns } ?? false)
      } catch let error as PostgreSQLError where error.isRefusal {
        continue
      }
    }
  }
}
