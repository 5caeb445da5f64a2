/// A privilege that GRANT can give on an object of the connected database.
public struct Privilege: Sendable, Hashable {
  public enum Object: Sendable, Hashable {
    /// The database that the session is connected to.
    case database
    case schema(String)
    case table(schema: String, name: String)
    case column(schema: String, table: String, name: String)
    case type(schema: String, name: String)
    /// `Privileges.missing` checks all functions with this name, and the GRANT is for the one with these arguments.
    /// - Parameter arguments: the schema-qualified types of the arguments.
    case function(schema: String, name: String, arguments: String)
  }

  /// The keyword for GRANT, such as `SELECT`.
  public let word: String
  public let object: Object

  public init(_ word: String, on object: Object) {
    self.word = word
    self.object = object
  }
}

/// A list of privileges: those that a role needs, or those that it lacks.
public struct Privileges: Sendable {
  /// PUBLIC, in place of a role's name.
  public static let everybody = "public"

  public let privileges: [Privilege]

  public init(_ privileges: [Privilege]) {
    var seen: Set<Privilege> = []
    self.privileges = privileges.filter { seen.insert($0).inserted }
  }

  /// The privileges that a role does not have. Privileges on an object that does not exist are not included. But if
  /// a table exists without the column, the query fails.
  /// - Parameter role: nil means the session's role.
  public func missing(
    for role: String? = nil, on session: some Session
  ) async throws -> Privileges {
    var parts: [[String]] = Array(repeating: [], count: 5)
    for privilege in privileges {
      for (index, part) in privilege.parts.enumerated() { parts[index].append(part) }
    }
    let numbers = try await session.query(
      """
      SELECT DISTINCT w.number
      FROM unnest(\(parts[0])::text[], \(parts[1])::text[], \(parts[2])::text[],
                  \(parts[3])::text[], \(parts[4])::text[]) WITH ORDINALITY
             AS w (kind, schema, name, part, word, number)
      CROSS JOIN (SELECT coalesce(\(role), current_user)::name AS name) AS role
      LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
      LEFT JOIN pg_catalog.pg_class AS c
        ON w.kind IN ('table', 'column') AND c.relnamespace = n.oid AND c.relname = w.name
      LEFT JOIN pg_catalog.pg_type AS t
        ON w.kind = 'type' AND t.typnamespace = n.oid AND t.typname = w.name
      LEFT JOIN pg_catalog.pg_proc AS p
        ON w.kind = 'function' AND p.pronamespace = n.oid AND p.proname = w.name
      WHERE NOT CASE w.kind
        WHEN 'database'
          THEN pg_catalog.has_database_privilege(role.name, current_database()::text, w.word)
        WHEN 'schema' THEN pg_catalog.has_schema_privilege(role.name, n.oid, w.word)
        WHEN 'table' THEN pg_catalog.has_table_privilege(role.name, c.oid, w.word)
        WHEN 'column' THEN pg_catalog.has_column_privilege(role.name, c.oid, w.part, w.word)
        WHEN 'type' THEN pg_catalog.has_type_privilege(role.name, t.oid, w.word)
        ELSE pg_catalog.has_function_privilege(role.name, p.oid, w.word) END
      ORDER BY w.number
      """
    ).rows(as: Int64.self)
    return Privileges(numbers.map { privileges[Int($0) - 1] })
  }

  /// One GRANT statement for each object, in the order of the objects' first appearance.
  /// - Parameter database: the name of the session's database.
  public func grants(to role: String, database: String) -> [String] {
    var order: [String] = []
    var words: [String: [String]] = [:]
    var columns: [String: [String: [String]]] = [:]
    for privilege in privileges {
      let object = privilege.object.sql(database: database)
      if words[object] == nil, columns[object] == nil { order.append(object) }
      if case .column(_, _, let name) = privilege.object {
        columns[object, default: [:]][privilege.word, default: []].append(Identifier(name).quoted)
      } else {
        words[object, default: []].append(privilege.word)
      }
    }
    return order.map { object in
      let ofColumns = columns[object, default: [:]].sorted { $0.key < $1.key }
        .filter { words[object]?.contains($0.key) != true }
        .map { "\($0.key) (\($0.value.joined(separator: ", ")))" }
      let all = (words[object] ?? []) + ofColumns
      return "GRANT \(all.joined(separator: ", ")) ON \(object) TO \(Identifier(role).quoted)"
    }
  }
}

extension Privilege {
  /// Kind, schema, name, part and word.
  fileprivate var parts: [String] {
    switch object {
    case .database: ["database", "", "", "", word]
    case .schema(let name): ["schema", name, "", "", word]
    case .table(let schema, let name): ["table", schema, name, "", word]
    case .column(let schema, let table, let name): ["column", schema, table, name, word]
    case .type(let schema, let name): ["type", schema, name, "", word]
    case .function(let schema, let name, let arguments):
      ["function", schema, name, arguments, word]
    }
  }
}

extension Privilege.Object {
  /// The object's name for GRANT; for a column, its table.
  func sql(database: String) -> String {
    func qualified(_ schema: String, _ name: String) -> String {
      "\(Identifier(schema).quoted).\(Identifier(name).quoted)"
    }
    switch self {
    case .database: return "DATABASE \(Identifier(database).quoted)"
    case .schema(let name): return "SCHEMA \(Identifier(name).quoted)"
    case .table(let schema, let name): return qualified(schema, name)
    case .column(let schema, let table, _): return qualified(schema, table)
    case .type(let schema, let name): return "TYPE \(qualified(schema, name))"
    case .function(let schema, let name, let arguments):
      return "FUNCTION \(qualified(schema, name))(\(arguments))"
    }
  }
}

extension Session {
  /// The names of the session's role and database.
  public func roleAndDatabase() async throws -> (role: String, database: String) {
    let names = try await query("SELECT current_user::text, current_database()::text")
      .onlyRow(as: String.self, String.self)
    return (role: names.0, database: names.1)
  }
}
