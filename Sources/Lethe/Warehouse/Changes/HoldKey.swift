import Definitions
import PostgreSQL
import Warehouse

/// How the rows of a table are named in `lethe.hold`.
struct HoldKey {
  /// `lethe.hold.table_name`. A partition's rows are named after the whole table.
  let table: String
  let columns: [WarehouseTable.Column]

  /// Nil for a table whose rows nothing tells apart.
  init?(_ table: WarehouseTable) {
    guard !table.holdKey.isEmpty else { return nil }
    self.table = table.holdTable.written
    columns = table.holdKey
  }

  /// In the order of `lethe.held_key`.
  var names: [String] {
    columns.map(\.name).sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
  }

  /// `lethe.hold.row_key` of a row.
  func json(of alias: SQL) -> SQL {
    let pairs = columns.map { "\(literal: $0.name), \(alias).\($0.sql)::text" as SQL }
    return "pg_catalog.jsonb_build_object(\(pairs.joined(separator: ", ")))"
  }

  /// The hold of a row, to be joined laterally or asked for with EXISTS: none, or one.
  ///
  /// - Parameter rowKey: the row's `lethe.hold.row_key`.
  func hold(of rowKey: SQL) -> SQL {
    // OFFSET keeps it a look into the index for each row. As a join it may become a pass over all holds for
    // each batch: of a night's many new holds the server has no statistics yet.
    """
    SELECT * FROM lethe.hold
    WHERE table_name = \(table)::text AND row_key = \(rowKey) LIMIT 1 OFFSET 0
    """
  }
}
