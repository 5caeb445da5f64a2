import Definitions
package import SQLText

/// Which foreign keys may keep a plan's deletions from being done: one rule for `lethe check`, for the look before a
/// chunk's first batch, and for the bounds of batches.
extension ApplyPlan {
  /// Whether the changes before a deletion delete every row that refers, by a foreign key, to what it deletes.
  package func isCovered(_ key: WarehouseTable.ForeignKey, at index: Int) -> Bool {
    let later = changes[index]
    let reasons = changes[..<index].filter { $0.follows(key, before: later) }.flatMap(\.reasons)
    return Set(later.reasons).isSubset(of: reasons)
  }

  /// The changes up to a deletion that delete rows which refer by a foreign key to what it deletes. Rows of the same
  /// table may go in its own statement.
  package func takers(of key: WarehouseTable.ForeignKey, at index: Int) -> [Change] {
    let isOwn = key.refers(from: changes[index].target.table.name)
    return (isOwn ? changes[...index] : changes[..<index]).filter { $0.takes(from: key) }
  }

  /// The foreign keys at what a change deletes whose referring rows may be deleted by an event that comes later than
  /// the one which deletes what they refer to.
  package func crossing(at index: Int) -> [WarehouseTable.ForeignKey] {
    let table = changes[index].target.table
    return table.references.filter { key in
      guard key.isRestricting else { return false }
      if key.refers(from: table.name) { return true }
      return changes[..<index].contains { $0.takes(from: key) } && !isCovered(key, at: index)
    }
  }
}

extension Change {
  /// Whether it deletes rows of the table that a foreign key is of.
  fileprivate func takes(from key: WarehouseTable.ForeignKey) -> Bool {
    isDelete && key.refers(from: target.table.name)
  }

  /// Whether it deletes, for each of its reasons, every row that refers to what a later change deletes: it finds its
  /// rows by the key, from the same ID or from the later change's table.
  fileprivate func follows(_ key: WarehouseTable.ForeignKey, before later: Change) -> Bool {
    guard takes(from: key), key.columns == [target.match.name],
      let referred = key.referencedColumns.first
    else { return false }
    let steps = target.steps.map(\.names)
    let laterSteps = later.target.steps.map(\.names)
    // A key compares values as they are. One side alone may have been normalized.
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
      let sign: SQL = isOfPeriods && index == columns.count - 1 ? "&&" : "="
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
