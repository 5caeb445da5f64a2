package import Definitions
package import SQLText
package import Vocabulary

/// A table that an event changes, and how its rows are found from the event's ID.
package struct TargetPath: Sendable {
  /// The column with the IDs of the rows, and their type: posts or users.
  package struct RowID: Sendable {
    package let column: IDExpression
    package let type: JobType
  }

  /// A table between the event and the target. `match` contains the ID of the previous table, or the event's ID in the
  /// first step. `id` is the ID that the next table's `match` contains.
  package struct Step: Sendable {
    package let table: WarehouseTable
    package let match: IDExpression
    package let id: IDExpression
  }

  package let table: WarehouseTable
  package let match: IDExpression
  /// The tables between the event and the target, in this order.
  package let steps: [Step]
  /// The IDs of the table's own rows. Nil if the rows have no IDs of posts or users, or if their ID is the event's ID.
  package let rowID: RowID?
  /// The column with the time that the post ID in `match` also contains.
  package let idTime: WarehouseTable.Column?
  package let actions: [Reason: Action]
  /// Whether the table is the dataset's own table.
  package let isOwn: Bool
  /// The key in the definition: `datasets.posts.targets[0]`.
  package let path: String

  /// Whether `match` contains the event's ID.
  package var isDirect: Bool { steps.isEmpty }

  /// Whether an event can reach more than one row.
  package var fansOut: Bool {
    !table.isUnique(match) || steps.contains { !$0.table.isUnique($0.match) }
  }

  /// The tables of a dataset in the order of their changes: the declared targets, each after its nested targets, and
  /// then the dataset's own table.
  package static func all(of dataset: Dataset, catalog: Catalog) throws -> [TargetPath] {
    var paths: [TargetPath] = []
    let path = "datasets.\(dataset.name)"
    for (index, target) in dataset.targets.enumerated() {
      let path = "\(path).targets[\(index)]"
      try add(target, at: path, after: [], of: dataset, catalog: catalog, to: &paths)
    }
    let table = try Self.table(dataset.table, catalog)
    paths.append(
      TargetPath(
        table: table, match: try id(dataset.id, of: table), steps: [], rowID: nil,
        idTime: try dataset.idTimeColumn.map { try column($0, of: table) },
        actions: dataset.actions, isOwn: true, path: path))
    return paths
  }

  private static func add(
    _ target: Target, at path: String, after steps: [Step], of dataset: Dataset,
    catalog: Catalog, to paths: inout [TargetPath]
  ) throws {
    let table = try Self.table(target.table, catalog)
    let match = try Self.id(target.match, of: table)
    let id = try target.id.map { try Self.id($0, of: table) }
    if let id {
      let step = Step(table: table, match: match, id: id)
      for (index, inner) in target.targets.enumerated() {
        let path = "\(path).targets[\(index)]"
        try add(
          inner, at: path, after: steps + [step], of: dataset, catalog: catalog, to: &paths)
      }
    }
    paths.append(
      TargetPath(
        table: table, match: match, steps: steps,
        rowID: id.flatMap { id in target.type?.jobType.map { RowID(column: id, type: $0) } },
        idTime: try target.idTimeColumn.map { try column($0, of: table) },
        actions: target.actions, isOwn: false, path: path))
  }

  private static func table(_ name: TableName, _ catalog: Catalog) throws -> WarehouseTable {
    guard let table = catalog.table(name) else {
      throw PlanError(message: "there is no table \(name) any more")
    }
    return table
  }

  private static func id(_ source: IDSource, of table: WarehouseTable) throws -> IDExpression {
    IDExpression(try column(source.column, of: table), source)
  }

  private static func column(
    _ name: String, of table: WarehouseTable
  ) throws -> WarehouseTable.Column {
    guard let column = table.columns[name] else {
      throw PlanError(message: "\(table.name) has no column \(name) any more")
    }
    return column
  }

  /// `FROM` items and conditions that join the events `s` to the rows `t` of the table.
  package var join: (from: SQL, conditions: [SQL]) {
    var from: SQL = "lethe.collected AS s"
    var conditions: [SQL] = []
    var previous = (expression: "s.id" as SQL, kind: IDKind.integer)
    for (index, step) in steps.enumerated() {
      let alias: SQL = "p\(literal: index + 1)"
      from += ", \(step.table.sql) AS \(alias)"
      conditions.append(step.match.equals(previous.expression, of: previous.kind, alias: alias))
      previous = (step.id.sql(of: alias), step.id.kind)
    }
    conditions.append(match.equals(previous.expression, of: previous.kind, alias: "t"))
    return (from, conditions)
  }

  /// The reverse of `join`: finds the event of a row `t`. Contains further `FROM` items, conditions, and the event's ID
  /// as SQL.
  package var reverseJoin: (from: SQL, conditions: [SQL], id: SQL) {
    var from: SQL = ""
    var conditions: [SQL] = []
    var current = (id: match, alias: "t" as SQL)
    for (index, step) in steps.enumerated().reversed() {
      let alias: SQL = "p\(literal: index + 1)"
      from += ", \(step.table.sql) AS \(alias)"
      conditions.append(
        step.id.equals(current.id.sql(of: current.alias), of: current.id.kind, alias: alias))
      current = (step.match, alias)
    }
    return (from, conditions, current.id.number(of: current.alias))
  }
}
