package import Definitions
package import SQLText

/// A path from the IDs of a dataset to the rows of a table that they protect.
package struct ProtectionPath: Sendable {
  package let pipeline: String
  package let dataset: String
  package let table: TableName
  package let resolvedTable: TableName
  private let match: IDExpression
  private let steps: [TargetPath.Step]

  package static func all(of definition: Definition, catalog: Catalog) throws -> [ProtectionPath] {
    try definition.datasets.flatMap { dataset in
      try TargetPath.all(of: dataset, catalog: catalog)
        .filter { $0.actions.values.contains { $0.kind.hiding != nil } }
        .map {
          ProtectionPath(
            pipeline: definition.name, dataset: dataset.name, table: $0.table.name,
            resolvedTable: $0.table.resolvedName, match: $0.match, steps: $0.steps)
        }
    }
  }

  /// The condition that a row is not hidden by an ID that a version of Lethe without holds has protected. It follows
  /// the path from the row back to the ID. A batch deletes the protections that it ends before it restores rows, so
  /// that only the protections of other IDs prevent a restore.
  package func isFree(_ alias: SQL) -> SQL {
    var from: SQL = "lethe.protection AS q"
    var conditions: [SQL] = []
    var current = (expression: match.sql(of: alias), kind: match.kind)
    for (index, step) in steps.reversed().enumerated() {
      let alias: SQL = "g\(literal: index + 1)"
      from += ", \(step.table.sql) AS \(alias)"
      conditions.append(step.id.equals(current.expression, of: current.kind, alias: alias))
      current = (step.match.sql(of: alias), step.match.kind)
    }
    conditions += [
      "q.pipeline = \(pipeline)",
      "q.dataset = \(dataset)",
      "q.id = \(IDKind.integer.cast(current.expression, from: current.kind))",
    ]
    return "NOT EXISTS (SELECT FROM \(from) WHERE \(conditions.joined(separator: " AND ")))"
  }
}
