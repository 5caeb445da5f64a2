public import Definitions
public import PostgreSQL
import Vocabulary

/// A problem that a check has found in a definition or its database.
public struct Finding: Sendable, Equatable {
  public enum Severity: String, Sendable {
    /// A run cannot start, or would set chunks or events aside.
    case error
    /// A run can start, but may be slow or incomplete.
    case warning
    /// Something that could not be checked, or that the operator should know.
    case note
  }

  public let severity: Severity
  /// The path in the definition: `datasets.posts.table`.
  public let path: String
  public let message: String
  public let remedy: String
  /// Whether the current role lacks a privilege. Another role may have it.
  public let isOfRole: Bool

  public init(
    severity: Severity, path: String, message: String, remedy: String, isOfRole: Bool = false
  ) {
    self.isOfRole = isOfRole
    self.severity = severity
    self.path = path
    self.message = message
    self.remedy = remedy
  }
}

extension Catalog {
  /// Checks the definition against the database: tables, columns, types, privileges, indexes, and the
  /// operator's conditions. Changes nothing.
  public func check(
    _ definition: Definition, on session: some Session
  ) async throws -> [Finding] {
    var checker = Checker(catalog: self)
    for dataset in definition.datasets {
      checker.check(dataset)
      checker.checkReferences(try? ApplyPlan(checking: dataset, catalog: self))
    }
    var findings = checker.findings
    for dataset in definition.datasets {
      if let finding = try await conditionFinding(dataset, on: session) { findings.append(finding) }
    }
    let names = try await session.roleAndDatabase()
    findings += try await Privileges(checker.unnamedPrivileges).missing(on: session)
      .findings(path: "datasets", role: names.role, database: names.database)
      .filter { finding in !findings.contains { $0.message == finding.message } }
    findings += try await valueFindings(checker.values, on: session)
    findings += try await idTimeFindings(checker.idTimes, on: session)
    findings += try await statementFindings(checker.statements, on: session)
    findings += try await indexFindings(checker.normalizedIDs, on: session)
    return findings
  }

  private func conditionFinding(
    _ dataset: Dataset, on session: some Session
  ) async throws -> Finding? {
    guard let condition = dataset.condition, let table = table(dataset.table) else { return nil }
    do {
      _ = try await session.query(
        "EXPLAIN SELECT FROM \(table.sql) WHERE (\(trusted: condition)\n)")
      return nil
    } catch let error as PostgreSQLError where !error.isTemporary {
      return Finding(
        severity: .error, path: "datasets.\(dataset.name).where",
        message: "PostgreSQL refuses the condition: \(error.message)",
        remedy: error.state == .insufficientPrivilege
          ? "GRANT SELECT on the tables that the condition reads, and USAGE on their schemas, to \(Identifier(role).quoted)"
          : "correct the SQL: where must be one condition on the rows of \(dataset.table)",
        isOfRole: error.state == .insufficientPrivilege)
    }
  }
}

struct Checker {
  let catalog: Catalog
  var findings: [Finding] = []
  /// Values to be checked against the types and the constraints.
  var values: [CheckedValue] = []
  var idTimes: [CheckedIDTime] = []
  var statements: [CheckedStatement] = []
  var normalizedIDs: [CheckedID] = []
  /// All privileges that the role needs, whether or not they are granted.
  var privileges: [Privilege] = []
  /// Privileges on objects that the definition does not name: the partitioned tables that identify held rows, and the
  /// schemas of column types.
  var unnamedPrivileges: [Privilege] = []

  init(catalog: Catalog) {
    self.catalog = catalog
  }

  mutating func check(_ dataset: Dataset) {
    let path = "datasets.\(dataset.name)"
    guard let table = usableTable(dataset.table, path: path) else { return }
    if let id = checkIDColumn(dataset.id, of: table, path: "\(path).id") {
      checkIndex(id, of: table, path: "\(path).id")
      if table.visibleShare < 0.8 {
        warn(
          "\(path).table",
          "only \(Int(table.visibleShare * 100)) % of \(dataset.table) is marked all-visible, so its export will be slow",
          "VACUUM \(table.quoted)")
      }
    }
    checkIDTime(dataset.idTimeColumn, with: dataset.id, of: table, path: "\(path).id_time")
    checkActions(dataset.actions, of: table, path: "\(path).actions")
    for (index, target) in dataset.targets.enumerated() {
      check(target, path: "\(path).targets[\(index)]")
    }
  }

  private mutating func check(_ target: Target, path: String) {
    guard let table = usableTable(target.table, path: path) else { return }
    if let match = checkIDColumn(target.match, of: table, path: "\(path).match") {
      checkIndex(match, of: table, path: "\(path).match")
    }
    if let id = target.id { _ = checkIDColumn(id, of: table, path: "\(path).id") }
    checkIDTime(target.idTimeColumn, with: target.match, of: table, path: "\(path).id_time")
    checkActions(target.actions, of: table, path: "\(path).actions")
    for (index, inner) in target.targets.enumerated() {
      check(inner, path: "\(path).targets[\(index)]")
    }
  }

  private mutating func usableTable(_ name: TableName, path: String) -> WarehouseTable? {
    guard let table = catalog.table(name) else {
      error("\(path).table", "there is no table \(name)", "create it, or correct its name")
      return nil
    }
    guard table.kind.hasChangeableRows else {
      error(
        "\(path).table", "\(name) is \(table.kind.reason)", "name the table that holds the rows")
      return nil
    }
    need([Privilege("USAGE", on: table.schemaObject), Privilege("SELECT", on: table.object)])
    if !table.isSchemaUsable, let schema = table.resolvedName.schema {
      error(
        "\(path).table", "USAGE on the schema \(schema) is not granted",
        grant("USAGE", on: "SCHEMA \(Identifier(schema).quoted)"), isOfRole: true)
    }
    if !table.privileges.contains(.select) {
      error(
        "\(path).table", "SELECT on \(name) is not granted", grant("SELECT", on: table.quoted),
        isOfRole: true)
    }
    checkRowSecurity(.select, on: table, path: "\(path).table")
    return table
  }

  private mutating func column(
    _ name: String, of table: WarehouseTable, path: String
  ) -> WarehouseTable.Column? {
    if let column = table.columns[name] { return column }
    error(
      path, "\(table.name) has no column \(name)",
      "its columns: \(table.columns.keys.sorted().joined(separator: ", "))")
    return nil
  }

  private mutating func checkIDColumn(
    _ source: IDSource, of table: WarehouseTable, path: String
  ) -> IDExpression? {
    guard let column = column(source.column, of: table, path: path) else { return nil }
    guard let kind = column.idKind else {
      error(
        path, "\(table.name).\(column.name) is \(column.type), which cannot store IDs",
        "use a column of type bigint, numeric or text")
      return nil
    }
    if let normalization = source.normalization, kind != .text {
      error(
        path,
        "\(table.name).\(column.name) is \(column.type), but normalize: \(normalization.rawValue) is only for text",
        "remove normalize")
      return nil
    }
    return IDExpression(column, source)
  }

  private mutating func checkIndex(_ id: IDExpression, of table: WarehouseTable, path: String) {
    guard !id.isNormalized else {
      if table.isReadable {
        normalizedIDs.append(CheckedID(path: path, table: table, id: id))
      }
      return
    }
    guard !table.indexedColumns.contains(id.name) else { return }
    warn(
      path, "no index of \(table.name) starts with \(id.name), so each batch reads the whole table",
      SQL("CREATE INDEX ON \(table.sql) (\(id.sql()))").description)
  }

  private mutating func checkActions(
    _ actions: [Reason: Action], of table: WarehouseTable, path: String
  ) {
    for (reason, action) in actions.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      let path = "\(path).\(reason.rawValue)"
      for requirement in action.kind.requirements { check(requirement, of: table, path: path) }
    }
  }

  private mutating func check(
    _ requirement: ActionRequirement, of table: WarehouseTable, path: String
  ) {
    switch requirement {
    case .delete: require(.delete, on: table, path: path)
    case .update(let columns): require(.update, of: columns, on: table, path: path)
    case .value(let value): checkAssignment(value, of: table, path: path)
    case .json(let column): checkJSON(column, of: table, path: path)
    case .holds(let set, let fallback, let ifWritten):
      needHoldTable(of: table, setting: set + fallback)
      checkHolds(setting: set.map(\.column), ifWritten, of: table, path: path)
    }
  }

  private mutating func checkJSON(_ name: String, of table: WarehouseTable, path: String) {
    guard let column = column(name, of: table, path: path) else { return }
    if column.isGenerated {
      checkAssignment(ColumnValue(column: name, value: ""), of: table, path: path)
    } else if !column.isJSON {
      error(
        path,
        "\(table.name).\(name) is \(column.type), but paths can be removed only from jsonb or json",
        "name a column of type jsonb or json, or set the whole column to one value")
    }
  }

  private mutating func checkIDTime(
    _ name: String?, with id: IDSource, of table: WarehouseTable, path: String
  ) {
    guard let name, let column = column(name, of: table, path: path) else { return }
    guard column.isTime else {
      error(
        path, "\(table.name).\(name) is \(column.type), but id_time must be a date or a timestamp",
        "name a column of type timestamptz, timestamp or date")
      return
    }
    if !table.partitionColumns.contains(name) {
      warn(
        path, "\(table.name) is not partitioned by \(name), so id_time makes nothing faster",
        "remove id_time")
    }
    if table.isReadable, let id = table.id(id), id.column.idKind != nil {
      idTimes.append(CheckedIDTime(path: path, table: table, id: id, time: column))
    }
  }

  private mutating func checkAssignment(
    _ value: ColumnValue, of table: WarehouseTable, path: String
  ) {
    let name = value.column
    guard let column = column(name, of: table, path: path) else { return }
    if column.isGenerated {
      error(
        path, "\(table.name).\(name) is generated and cannot be set",
        "name the columns that it is generated from")
    } else if value.value == nil, !column.isNullable {
      error(
        path, "\(table.name).\(name) is NOT NULL and cannot be set to NULL",
        "set a value, such as {\(name): ''}, drop the NOT NULL constraint, or do not set the column"
      )
    } else if checkIsConstant(value, in: column, of: table, path: path) {
      if let schema = column.typeSchema {
        let needed = Privilege("USAGE", on: .schema(schema))
        need([needed])
        unnamedPrivileges.append(needed)
      }
      values.append(CheckedValue(path: path, table: table, column: column, value: value.value))
    }
  }

  /// - Parameter columns: the columns that an update sets.
  private mutating func require(
    _ privilege: WarehouseTable.Privilege, of columns: [String] = [], on table: WarehouseTable,
    path: String
  ) {
    checkRowSecurity(privilege, on: table, path: path)
    if table.rewritten.contains(privilege) {
      error(
        path, "a rule of \(table.name) rewrites \(privilege.rawValue)",
        "drop the rule, or replace it with a trigger: Lethe cannot verify what a rule does with a change"
      )
    }
    let known = columns.compactMap { table.columns[$0] }
    let lacking: [String]
    if privilege == .update {
      need(known.map { Privilege(privilege.rawValue, on: table.object(of: $0.name)) })
      lacking = known.filter { !$0.isUpdatable }.map(\.name)
    } else {
      need([Privilege(privilege.rawValue, on: table.object)])
      lacking = []
    }
    let isGranted = privilege == .update ? lacking.isEmpty : table.privileges.contains(privilege)
    guard !isGranted else {
      statements.append(
        CheckedStatement(path: path, table: table, privilege: privilege, columns: columns))
      return
    }
    let part =
      lacking.isEmpty ? "" : " (\(lacking.map { Identifier($0).quoted }.joined(separator: ", ")))"
    error(
      path, "\(privilege.rawValue) on \(table.name) is not granted",
      grant("\(privilege.rawValue)\(part)", on: table.quoted), isOfRole: true)
  }

  /// Adds the privileges on the partitioned table of a partition. A restore updates a partition's rows through that
  /// table.
  private mutating func needHoldTable(of table: WarehouseTable, setting values: [ColumnValue]) {
    let name = table.holdTable
    guard name != table.resolvedName, name.schema != nil else { return }
    let needed =
      [
        Privilege("USAGE", on: .schema(name.schema ?? "public")),
        Privilege("SELECT", on: name.object),
      ] + values.map { Privilege("UPDATE", on: name.object(of: $0.column)) }
    need(needed)
    unnamedPrivileges += needed
  }

  mutating func need(_ needed: [Privilege]) { privileges += needed }

  func grant(_ privileges: String, on object: String) -> String {
    "GRANT \(privileges) ON \(object) TO \(Identifier(catalog.role).quoted)"
  }

  /// Reports row-level security that may hide rows. Hidden rows would be neither exported nor changed, and no error
  /// would show this.
  private mutating func checkRowSecurity(
    _ privilege: WarehouseTable.Privilege, on table: WarehouseTable, path: String
  ) {
    guard table.rowsHiddenFrom.contains(privilege) else { return }
    error(
      path, "row-level security may hide rows of \(table.name) from \(privilege.rawValue)",
      "give Lethe's role BYPASSRLS, or create a policy for this role with USING (true)",
      isOfRole: true)
  }

  mutating func warn(_ path: String, _ message: String, _ remedy: String) {
    findings.append(Finding(severity: .warning, path: path, message: message, remedy: remedy))
  }

  mutating func error(
    _ path: String, _ message: String, _ remedy: String, isOfRole: Bool = false
  ) {
    let finding = Finding(
      severity: .error, path: path, message: message, remedy: remedy, isOfRole: isOfRole)
    if !findings.contains(finding) { findings.append(finding) }
  }
}

extension TableName {
  /// The object of a privilege on this table.
  var object: Privilege.Object { .table(schema: schema ?? "public", name: name) }
  func object(of column: String) -> Privilege.Object {
    .column(schema: schema ?? "public", table: name, name: column)
  }
}

extension WarehouseTable.Kind {
  /// Why rows of such a relation cannot be changed.
  var reason: String {
    switch self {
    case .view:
      "a view: Lethe cannot verify what its rules or triggers do with a change"
    case .materializedView: "a materialized view: its rows cannot be changed"
    case .foreignTable: "a foreign table: its changes do not commit together with the ledger"
    case .table, .partitioned, .other: "not a table"
    }
  }
}

extension WarehouseTable {
  var object: PostgreSQL.Privilege.Object { resolvedName.object }
  var schemaObject: PostgreSQL.Privilege.Object { .schema(resolvedName.schema ?? "public") }
  func object(of column: String) -> PostgreSQL.Privilege.Object { resolvedName.object(of: column) }

  fileprivate var isReadable: Bool { isSchemaUsable && privileges.contains(.select) }
}
