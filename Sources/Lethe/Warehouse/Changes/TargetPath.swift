import Definitions
import PostgreSQL
import Vocabulary
import Warehouse

/// A table that an event reaches, and the way from the event's ID to its rows.
struct Reach {
  /// The column with the IDs of rows, and what those are of.
  struct RowID {
    let column: IDExpression
    let type: JobType
  }

  /// A table in between: `match` holds the ID before it, `id` the one that goes on.
  struct Step {
    let table: WarehouseTable
    let match: IDExpression
    let id: IDExpression
  }

  let table: WarehouseTable
  let match: IDExpression
  /// The tables on the way, the one next to the event first.
  let steps: [Step]
  /// The IDs of the table's own rows; nil where they are no posts and no users, or the event's own.
  let rowID: RowID?
  /// Holds the time that is in the post's ID in `match`.
  let idTime: WarehouseTable.Column?
  let actions: [Reason: Action]
  /// Whether it is the table that the dataset's IDs are of.
  let isOwn: Bool
  /// Where it is in the definition: `datasets.posts.targets[0]`.
  let path: String

  /// Whether `match` holds the event's ID.
  var isDirect: Bool { steps.isEmpty }

  /// Whether an event can reach more than one row.
  var fansOut: Bool {
    !table.isUnique(match) || steps.contains { !$0.table.isUnique($0.match) }
  }

  /// The tables of a dataset in the order in which they are changed: children before parents, as
  /// declared, the dataset's own table last.
  static func all(of dataset: Dataset, catalog: Catalog) throws -> [Reach] {
    var reaches: [Reach] = []
    let path = "datasets.\(dataset.name)"
    for (index, target) in dataset.targets.enumerated() {
      let path = "\(path).targets[\(index)]"
      try add(target, at: path, after: [], of: dataset, catalog: catalog, to: &reaches)
    }
    let table = try Self.table(dataset.table, catalog)
    reaches.append(
      Reach(
        table: table, match: try id(dataset.id, of: table), steps: [], rowID: nil,
        idTime: try dataset.idTimeColumn.map { try column($0, of: table) },
        actions: dataset.actions, isOwn: true, path: path))
    return reaches
  }

  private static func add(
    _ target: Target, at path: String, after steps: [Step], of dataset: Dataset,
    catalog: Catalog, to reaches: inout [Reach]
  ) throws {
    let table = try Self.table(target.table, catalog)
    let match = try Self.id(target.match, of: table)
    let id = try target.id.map { try Self.id($0, of: table) }
    if let id {
      let step = Step(table: table, match: match, id: id)
      for (index, inner) in target.targets.enumerated() {
        let path = "\(path).targets[\(index)]"
        try add(
          inner, at: path, after: steps + [step], of: dataset, catalog: catalog, to: &reaches)
      }
    }
    reaches.append(
      Reach(
        table: table, match: match, steps: steps,
        rowID: id.flatMap { id in target.type?.jobType.map { RowID(column: id, type: $0) } },
        idTime: try target.idTimeColumn.map { try column($0, of: table) },
        actions: target.actions, isOwn: false, path: path))
  }

  private static func table(_ name: TableName, _ catalog: Catalog) throws -> WarehouseTable {
    guard let table = catalog.table(name) else {
      throw ApplyError(
        nil, message: "there is no table \(name) any more",
        remedy: "lethe check tells what does not fit"
      )
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
      throw ApplyError(
        nil, message: "\(table.name) has no column \(name) any more",
        remedy: "lethe check tells what does not fit")
    }
    return column
  }

  /// `FROM` items and conditions that join the events `s` to the rows `t` of the table.
  var join: (from: SQL, conditions: [SQL]) {
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

  /// The same from a row `t` back to the ID of the event that reaches it: further `FROM` items, conditions,
  /// and the ID.
  var back: (from: SQL, conditions: [SQL], id: SQL) {
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
