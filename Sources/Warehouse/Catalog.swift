public import Definitions
public import PostgreSQL
import Vocabulary

/// The operator's tables that a definition names, looked up once.
public struct Catalog: Sendable {
  private let tables: [TableName: WarehouseTable]

  /// Looks up every table of the definition. One that does not exist is left out; `check` tells.
  public init(of definition: Definition, on session: some Session) async throws {
    var tables: [TableName: WarehouseTable] = [:]
    for name in definition.tableNames where tables[name] == nil {
      tables[name] = try await Self.lookUp(name, on: session)
    }
    self.tables = tables
  }

  public func table(_ name: TableName) -> WarehouseTable? {
    tables[name]
  }

  /// Below this, 8 MiB, a stale visibility map costs nothing that anybody would notice.
  private static let pagesWorthVacuuming: Int64 = 1024

  private static func lookUp(
    _ name: TableName, on session: some Session
  ) async throws -> WarehouseTable? {
    guard
      let row = try await session.query(
        """
        SELECT c.oid::bigint, c.relkind::text,
               CASE WHEN c.relpages < \(pagesWorthVacuuming) THEN 1
                    ELSE c.relallvisible::float8 / c.relpages END,
               has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'UPDATE'),
               has_table_privilege(c.oid, 'DELETE'), has_schema_privilege(n.oid, 'USAGE')
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = $1
          AND CASE WHEN $2::text IS NULL THEN c.oid = to_regclass(quote_ident($1))
                   ELSE n.nspname = $2 END
        """, .text(name.name), Parameter(name.schema)
      ).firstRow(
        as: Int64.self, String.self, Double.self, Bool.self, Bool.self, Bool.self, Bool.self)
    else { return nil }
    let columns = try await session.query(
      """
      SELECT a.attname, format_type(a.atttypid, -1), NOT a.attnotnull, a.attgenerated <> '',
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum),
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indisunique
                       AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL)
      FROM pg_attribute AS a
      WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
      """, .integer(row.0)
    ).rows(as: String.self, String.self, Bool.self, Bool.self, Bool.self, Bool.self)
    let granted = [row.3, row.4, row.5]
    return WarehouseTable(
      name: name,
      columns: Dictionary(
        uniqueKeysWithValues: columns.map {
          ($0.0, .init(name: $0.0, type: $0.1, isNullable: $0.2, isGenerated: $0.3))
        }),
      kind: WarehouseTable.Kind(rawValue: row.1) ?? .other, isSchemaUsable: row.6,
      privileges: Set(
        zip(WarehouseTable.Privilege.allCases, granted).compactMap { $1 ? $0 : nil }),
      rowsHiddenFrom: try await hidden(row.0, on: session),
      visibleShare: row.2, indexedColumns: Set(columns.compactMap { $0.4 ? $0.0 : nil }),
      uniqueColumns: Set(columns.compactMap { $0.5 ? $0.0 : nil }),
      primaryKey: try await keyColumns(
        "SELECT indkey::int2[] FROM pg_index WHERE indrelid = $1::bigint::oid AND indisprimary",
        row.0, on: session),
      partitionColumns: try await keyColumns(
        "SELECT partattrs::int2[] FROM pg_partitioned_table WHERE partrelid = $1::bigint::oid",
        row.0, on: session),
      references: try await references(to: row.0, on: session))
  }

  /// The names of the columns whose numbers a query gives in one array.
  private static func keyColumns(
    _ numbers: String, _ table: Int64, on session: some Session
  ) async throws -> [String] {
    try await session.query(
      """
      SELECT a.attname FROM unnest((\(numbers))) WITH ORDINALITY AS k (attnum, place)
      JOIN pg_attribute AS a ON a.attrelid = $1::bigint::oid AND a.attnum = k.attnum
      ORDER BY place
      """, .integer(table)
    ).rows(as: String.self)
  }

  /// What row-level security may hide rows from: all but what a policy leaves open without a condition.
  private static func hidden(
    _ table: Int64, on session: some Session
  ) async throws -> Set<WarehouseTable.Privilege> {
    let words = try await session.query(
      """
      WITH policy AS (
        SELECT polcmd, polpermissive, pg_get_expr(polqual, polrelid) = 'true' AS is_open
        FROM pg_policy
        WHERE polrelid = $1::bigint::oid
          AND EXISTS (SELECT FROM unnest(polroles) AS r
                      WHERE r = 0 OR pg_has_role(current_user, r, 'USAGE'))
      )
      SELECT command.name
      FROM (VALUES ('SELECT', 'r'), ('UPDATE', 'w'), ('DELETE', 'd')) AS command (name, letter)
      WHERE row_security_active($1::bigint::oid)
        AND (NOT EXISTS (SELECT FROM policy
                         WHERE polpermissive AND is_open AND polcmd::text IN (letter, '*'))
             OR EXISTS (SELECT FROM policy
                        WHERE NOT polpermissive AND NOT is_open AND polcmd::text IN (letter, '*')))
      """, .integer(table)
    ).rows(as: String.self)
    return Set(words.compactMap(WarehouseTable.Privilege.init))
  }

  private static func references(
    to table: Int64, on session: some Session
  ) async throws -> [WarehouseTable.ForeignKey] {
    func names(_ numbers: String, of relation: String) -> String {
      """
      (SELECT string_agg(a.attname, E'\\n' ORDER BY place)
       FROM unnest(\(numbers)) WITH ORDINALITY AS n (attnum, place)
       JOIN pg_attribute AS a ON a.attrelid = \(relation) AND a.attnum = n.attnum)
      """
    }
    let referring = names("k.conkey", of: "k.conrelid")
    let referred = names("k.confkey", of: "k.confrelid")
    let keys = try await session.query(
      """
      SELECT k.conname, s.nspname, c.relname, \(referring), \(referred), k.confdeltype::text
      FROM pg_constraint AS k
      JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS s ON s.oid = c.relnamespace
      WHERE k.contype = 'f' AND k.confrelid = $1::bigint::oid AND k.conparentid = 0
      ORDER BY 2, 3, 1
      """, .integer(table)
    ).rows(
      as: String.self, String.self, String.self, String.self, String.self, String.self)
    return keys.map { row in
      WarehouseTable.ForeignKey(
        constraint: row.0, table: TableName(schema: row.1, name: row.2),
        columns: row.3.split(separator: "\n").map(String.init),
        referencedColumns: row.4.split(separator: "\n").map(String.init),
        isRestricting: ["a", "r"].contains(row.5), isCascading: row.5 == "c")
    }
  }
}

extension Definition {
  /// Every table that is named, in the order of naming.
  var tableNames: [TableName] {
    func names(_ targets: [Target]) -> [TableName] {
      targets.flatMap { [$0.table] + names($0.targets) }
    }
    return datasets.flatMap { [$0.table] + names($0.targets) }
  }
}
