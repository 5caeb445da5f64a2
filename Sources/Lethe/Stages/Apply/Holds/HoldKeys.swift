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

  /// A key by which rows of a table are, or were, named.
  private struct Known {
    let table: String
    let columns: [String]
  }

  private func known() async throws -> [Known] {
    try await connection.query(
      "SELECT table_name, array_to_json(key_columns)::text FROM lethe.held_key ORDER BY 1, 2"
    ).rows(as: String.self, String.self).map {
      Known(
        table: $0.0, columns: try JSONDecoder().decode([String].self, from: Data($0.1.utf8)))
    }
  }

  // MARK: Another key

  /// Names the holds of the changed tables by the keys that these have now. One whose row is not told apart
  /// any more stays as it is, and waits.
  func bringUpToDate(_ plan: ApplyPlan) async throws {
    let columns = HeldColumns(connection: connection, catalog: catalog)
    try await columns.follow()
    try await columns.note(plan)
    let all = try await known()
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
    _ former: Known, _ key: HoldKey, _ table: WarehouseTable
  ) async throws {
    guard former.columns.allSatisfy({ table.columns[$0] != nil }),
      let whole = TableName(key.table)
    else { return }
    func isRow(_ alias: SQL) -> SQL {
      former.columns.compactMap { name in
        table.columns[name].map {
          "\(alias).\($0.sql) = (h.row_key ->> \(literal: name))::\($0.typeSQL)" as SQL
        }
      }.joined(separator: " AND ")
    }
    try await connection.withTransaction { transaction in
      try await transaction.execute(
        """
        UPDATE lethe.hold AS h SET table_name = \(key.table), row_key = \(key.json(of: "t"))
        FROM \(whole.sql) AS t
        WHERE h.table_name = \(former.table)
          AND ARRAY (SELECT k FROM jsonb_object_keys(h.row_key) AS k
            ORDER BY k COLLATE "C") = \(former.columns)::text[]
          AND \(isRow("t"))
          AND (SELECT count(*) FROM (SELECT FROM \(whole.sql) AS o WHERE \(isRow("o")) LIMIT 2) AS o) = 1
          AND NOT EXISTS (SELECT FROM lethe.hold AS g
                          WHERE g.table_name = \(key.table) AND g.row_key = \(key.json(of: "t")))
        """)
      try await transaction.execute(
        """
        DELETE FROM lethe.held_key WHERE table_name = \(former.table)
        AND key_columns = \(former.columns)::text[]
        """
      )
      try await transaction.execute(
        """
        INSERT INTO lethe.held_key (table_name, key_columns) VALUES (\(key.table), \(key.names)::text[])
        ON CONFLICT DO NOTHING
        """)
    }
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
    for known in try await known() where !tables.contains(known.table) {
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
    for known in try await known() {
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
        try await connection.execute(
          """
          WITH lost AS (
            DELETE FROM lethe.hold AS h
            WHERE h.table_name = \(known.table)
              AND ARRAY (SELECT k FROM jsonb_object_keys(h.row_key) AS k
                ORDER BY k COLLATE "C") = \(known.columns)::text[]
              AND NOT EXISTS (SELECT FROM \(table.resolvedName.sql) AS t WHERE \(isRow))
            RETURNING h.*
          )
          INSERT INTO lethe.closed_hold
            (hold_id, table_name, row_key, row_type, row_id, held_at, outcome)
          SELECT hold_id, table_name, row_key, row_type, row_id, held_at, 'gone' FROM lost
          """)
      } catch let error as PostgreSQLError where error.isRefusal {
        continue
      }
    }
  }
}
