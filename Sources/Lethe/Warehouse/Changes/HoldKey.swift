internal import Definitions
package import SQLText

/// How `lethe.hold` identifies the rows of a table.
package struct HoldKey: Sendable {
  /// `lethe.hold.table_name`: the name of `WarehouseTable.holdTable`.
  package let table: String
  package let columns: [WarehouseTable.Column]

  /// Nil for a table without columns that identify a row.
  package init?(_ table: WarehouseTable) {
    guard !table.holdKey.isEmpty else { return nil }
    self.table = table.holdTable.written
    columns = table.holdKey
  }

  /// The columns in the order of `lethe.held_key`.
  package var names: [String] {
    columns.map(\.name).sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
  }

  /// The value of `lethe.hold.row_key` for a row.
  package func json(of alias: SQL) -> SQL {
    let pairs = columns.map { "\(literal: $0.name), \(alias).\($0.sql)::text" as SQL }
    return "pg_catalog.jsonb_build_object(\(pairs.joined(separator: ", ")))"
  }
}
