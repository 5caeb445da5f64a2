import Definitions
import PostgreSQL

/// Checks that hidden rows of a table can be found and restored later.
extension Checker {
  mutating func checkHolds(
    setting columns: [String], _ ifWritten: Restore.IfWritten, of table: WarehouseTable,
    path: String
  ) {
    if table.holdKey.isEmpty {
      checkMissingKey(of: table, path: path)
      return
    }
    if let column = table.holdKey.first(where: { columns.contains($0.name) }) {
      let key = table.holdKey.map(\.name).joined(separator: ", ")
      error(
        path,
        "protect sets \(table.name).\(column.name), which is part of the key (\(key)), so a restore could not find the rows",
        "set other columns, or write restore: none; then the rows stay hidden")
    }
    if ifWritten == .wait, let versionProblem = table.versionProblem {
      error(
        path,
        "\(versionProblem.reason), so Lethe cannot detect whether somebody else has written a hidden row",
        "write restore: none, or write {if_written: ignore} in restore to restore such rows anyway"
      )
    }
  }

  private mutating func checkMissingKey(of table: WarehouseTable, path: String) {
    if case .foreignPart(let part) = table.versionProblem {
      error(
        path,
        "\(table.name) has no key that identifies the rows that protect hides: \(part) is a foreign table, and no key includes its rows",
        "write restore: none; then the rows stay hidden. Or remove the foreign table from \(table.name)"
      )
    } else {
      error(
        path, "\(table.name) has no key that identifies the rows that protect hides",
        table.hasChildren
          ? "write restore: none; then the rows stay hidden. A key of \(table.name) does not cover the tables that inherit from it"
          : "add a primary key or a unique index over columns that are NOT NULL, or write restore: none; then the rows stay hidden"
      )
    }
  }
}

extension VersionProblem {
  var reason: String {
    switch self {
    case .foreignPart(let part): "\(part) is a foreign table"
    case .distributed(let part): "\(part) is distributed over other servers"
    case .otherStorage(let part, let method):
      "\(part) uses the table access method \(method), not heap"
    }
  }
}
