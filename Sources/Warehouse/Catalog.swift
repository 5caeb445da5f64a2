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
        SELECT c.oid::bigint, c.relkind IN ('r', 'p'),
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
        as: Int64.self, Bool.self, Double.self, Bool.self, Bool.self, Bool.self, Bool.self)
    else { return nil }
    let columns = try await session.query(
      """
      SELECT a.attname, format_type(a.atttypid, -1), NOT a.attnotnull, a.attgenerated <> '',
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum)
      FROM pg_attribute AS a
      WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
      """, .integer(row.0)
    ).rows(as: String.self, String.self, Bool.self, Bool.self, Bool.self)
    let granted = [row.3, row.4, row.5]
    return WarehouseTable(
      name: name,
      columns: Dictionary(
        uniqueKeysWithValues: columns.map {
          ($0.0, .init(name: $0.0, type: $0.1, isNullable: $0.2, isGenerated: $0.3))
        }),
      isTable: row.1, isSchemaUsable: row.6,
      privileges: Set(
        zip(WarehouseTable.Privilege.allCases, granted).compactMap { $1 ? $0 : nil }),
      visibleShare: row.2, indexedColumns: Set(columns.compactMap { $0.4 ? $0.0 : nil }))
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
