public import Definitions
public import PostgreSQL

/// What a definition asks of the role that runs it.
extension Catalog {
  /// What the role needs on the tables, whether it has it or not: USAGE on their schemas; SELECT on a table as
  /// a whole, since rows are told apart by their system columns, which no grant of columns includes; UPDATE on
  /// the columns that actions set; DELETE.
  public func privileges(of definition: Definition) -> [Privilege] {
    var checker = Checker(catalog: self)
    for dataset in definition.datasets { checker.check(dataset) }
    return checker.privileges
  }
}

extension Privileges {
  /// An error for each.
  public func findings(path: String, role: String, database: String) -> [Finding] {
    privileges.map { privilege in
      let grant = Privileges([privilege]).grants(to: role, database: database)[0]
      return Finding(
        severity: .error, path: path, message: "\(privilege.name) is not granted", remedy: grant)
    }
  }
}

extension Privilege {
  /// For people.
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
