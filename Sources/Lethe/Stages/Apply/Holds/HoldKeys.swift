import Definitions
import Foundation
import Ledger
public import PostgreSQL
public import Warehouse

/// Keeps the names of rows in `lethe.hold` in step with their tables: a table may get another key, become a
/// partition of a whole, or lose rows in a way that Lethe has no part in.
public struct HoldKeys: Sendable {
  private let connection: Connection
  private let catalog: Catalog

  public init(connection: Connection, catalog: Catalog) {
    self.connection = connection
    self.catalog = catalog
  }

  private var names: HoldNames { HoldNames(connection: connection) }

  // MARK: Another key

  /// Names the holds of the changed tables by the keys that these have now. One whose row is not told apart
  /// any more stays as it is, and waits.
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

  // MARK: Tables that are gone

  /// Has the holds use the names that their columns and tables have today.
  public func followNames() async throws {
    try await HeldColumns(connection: connection, catalog: catalog).follow()
  }

  /// Tables that have holds, and whose rows cannot be found: there is no such table, it has lost a column of
  /// the key or one that was set, or row-level security may hide its rows. What has another name only is found by
  /// the next run.
  public func tablesOutOfReach() async throws -> [String] {
    let moves = try await HeldColumns(connection: connection, catalog: catalog).moves()
    var tables: [String] = []
    for known in try await names.known() where !tables.contains(known.table) {
      if let move = moves.first(where: { $0.table == known.table }),
        known.columns.allSatisfy({ !move.dropped.contains($0) })
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

  // MARK: Rows that are gone

  /// Ends holds of rows that are not there any more, such as those that went with a row that they refer to.
  /// Tables that cannot be looked into are left out.
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
      do {
        try await names.endHoldsOfLostRows(
          known, rows: table.resolvedName.sql,
          isRow: isRow)
      } catch let error as PostgreSQLError where error.isRefusal {
        continue
      }
    }
  }
}
