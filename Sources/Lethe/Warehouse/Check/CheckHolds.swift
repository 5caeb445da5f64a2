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
        "protect sets \(table.name).\(column.name), which is part of the key (\(key)) that its rows are found by again",
        "set other columns, or write restore: none: the rows then stay hidden")
    }
    if ifWritten == .wait, let versionProblem = table.versionProblem {
      error(
        path,
        "\(versionProblem.reason): whether somebody else has written a hidden row cannot be told",
        "write restore: none, or {if_written: ignore} within restore to open such rows all the same"
      )
    }
  }

  private mutating func checkMissingKey(of table: WarehouseTable, path: String) {
    if case .foreignPart(let part) = table.versionProblem {
      error(
        path,
        "nothing tells the rows of \(table.name) apart that protect hides: \(part) is a foreign table, so they can have no key in common",
        "write restore: none: the rows then stay hidden; or keep the foreign table out of \(table.name)"
      )
    } else {
      error(
        path, "nothing tells the rows of \(table.name) apart that protect hides: it has no key",
        table.hasChildren
          ? "write restore: none: the rows then stay hidden; a key of \(table.name) does not see into the tables that inherit from it"
          : "add a primary key or a unique index over columns that are NOT NULL, or write restore: none: the rows then stay hidden"
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
