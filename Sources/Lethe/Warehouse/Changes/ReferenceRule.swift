import Definitions
package import SQLText

/// Finds the foreign keys that can block the deletes of a plan. `lethe check`, the check before a chunk's first batch,
/// and the bounds of batches all use this rule.
extension ApplyPlan {
  /// Whether the changes before a delete remove every row that refers, by a foreign key, to the deleted rows.
  package func isCovered(_ key: WarehouseTable.ForeignKey, at index: Int) -> Bool {
    let later = changes[index]
    let reasons = changes[..<index].filter { $0.follows(key, before: later) }.flatMap(\.reasons)
    return Set(later.reasons).isSubset(of: reasons)
  }

  /// The deletes of rows that refer to the rows of the delete at `index` by a foreign key. They come before that
  /// delete. If the key refers to its own table, the delete itself is included, because one statement may delete
  /// both rows.
  package func deletes(referringBy key: WarehouseTable.ForeignKey, at index: Int) -> [Change] {
    let isOwn = key.refers(from: changes[index].target.table.name)
    return (isOwn ? changes[...index] : changes[..<index]).filter {
      $0.deletesRows(referringBy: key)
    }
  }

  /// The foreign keys that can connect the deletes of two events: an earlier event deletes the referenced row, and a
  /// later event may delete the referring row.
  package func crossing(at index: Int) -> [WarehouseTable.ForeignKey] {
    let table = changes[index].target.table
    return table.references.filter { key in
      guard key.isRestricting else { return false }
      if key.refers(from: table.name) { return true }
      return changes[..<index].contains { $0.deletesRows(referringBy: key) }
        && !isCovered(key, at: index)
    }
  }
}

extension Change {
  /// Whether this change deletes rows of the foreign key's table.
  fileprivate func deletesRows(referringBy key: WarehouseTable.ForeignKey) -> Bool {
    isDelete && key.refers(from: target.table.name)
  }

  /// Whether this change deletes, for its reasons, every row that refers to the rows of a later delete. It does so if
  /// it finds its rows by a column of the key, from the same ID or from the later delete's table.
  fileprivate func follows(_ key: WarehouseTable.ForeignKey, before later: Change) -> Bool {
    // In a key of several columns, the other columns only reduce the matching rows. A period is left out, because it is
    // not compared for equality.
    let compared = key.hasPeriod ? key.columns.dropLast() : key.columns[...]
    guard deletesRows(referringBy: key), let index = compared.firstIndex(of: target.match.name)
    else {
      return false
    }
    let referred = key.referencedColumns[index]
    let steps = target.steps.map(\.names)
    let laterSteps = later.target.steps.map(\.names)
    // A foreign key compares stored values. If only one of the two IDs is normalized, other rows can match.
    if steps == laterSteps, later.target.match.name == referred {
      return target.match.isNormalized == later.target.match.isNormalized
    }
    return target.steps.last?.id.isNormalized == target.match.isNormalized
      && steps == laterSteps
        + [TargetPath.Step.Names(later.target.table.name, later.target.match, referred)]
  }
}

extension WarehouseTable.ForeignKey {
  /// The condition that a row `r` refers to a row `t`.
  package var equality: SQL {
    zip(columns, referencedColumns).enumerated().map { index, pair -> SQL in
      let sign: SQL = hasPeriod && index == columns.count - 1 ? "&&" : "="
      return "r.\(identifier: pair.0) \(sign) t.\(identifier: pair.1)"
    }
    .joined(separator: " AND ")
  }
}

extension TargetPath.Step {
  fileprivate struct Names: Equatable {
    let table: TableName
    let match: String
    let isMatchNormalized: Bool
    let id: String

    init(_ table: TableName, _ match: IDExpression, _ id: String) {
      (self.table, self.match, isMatchNormalized) = (table, match.name, match.isNormalized)
      self.id = id
    }
  }

  fileprivate var names: Names { Names(table.name, match, id.name) }
}
