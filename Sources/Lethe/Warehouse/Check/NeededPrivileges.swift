public import Definitions
public import PostgreSQL

/// The privileges that the role of a definition needs.
extension Catalog {
  /// The privileges on the tables, whether or not they are granted:
  /// - USAGE on their schemas, and on the schemas of the types of columns that actions set
  /// - SELECT on whole tables, because rows are identified by system columns, and a grant on columns does not include
  ///   system columns
  /// - UPDATE on the columns that actions set
  /// - DELETE on the tables from which actions delete rows
  /// - USAGE, SELECT and UPDATE for the partitioned table through which a restore updates a partition's rows
  /// - USAGE and SELECT for tables with foreign keys that can block a delete
  /// - Throws: `PlanError` if a table or a column is missing, because the list would be incomplete.
  public func privileges(of definition: Definition) throws -> [Privilege] {
    var checker = Checker(catalog: self)
    for dataset in definition.datasets {
      checker.check(dataset)
      checker.checkReferences(try ApplyPlan(checking: dataset, catalog: self))
    }
    return checker.privileges
  }
}

extension Privileges {
  /// One error for each missing privilege.
  public func findings(path: String, role: String, database: String) -> [Finding] {
    privileges.map { privilege in
      let grant = Privileges([privilege]).grants(to: role, database: database)[0]
      return Finding(
        severity: .error, path: path, message: "\(privilege.name) is not granted", remedy: grant,
        isOfRole: true)
    }
  }
}

extension Privilege {
  /// The name in messages.
  fileprivate var name: String {
    switch object {
    case .database: "\(word) on the database"
    case .schema(let name): "\(word) on the schema \(name)"
    case .table(let schema, let name): "\(word) on \(TableName(schema: schema, name: name))"
    case .column(let schema, let table, let name):
      "\(word) on the column \(name) of \(TableName(schema: schema, name: table))"
    case .type(let schema, let name): "\(word) on the type \(schema).\(name)"
    case .function(let schema, let name, _): "EXECUTE on the function \(schema).\(name)"
    }
  }
}
