public import Definitions
public import PostgreSQL
import Vocabulary

/// The operator's tables that a definition names, looked up once.
public struct Catalog: Sendable {
  private let tables: [TableName: WarehouseTable]
  /// Whom the session works as.
  let role: String

  /// Looks up every table of the definition. One that does not exist is left out; `check` tells.
  public init(of definition: Definition, on session: some Session) async throws {
    var tables: [TableName: WarehouseTable] = [:]
    for name in definition.tableNames where tables[name] == nil {
      tables[name] = try await Self.lookUp(name, on: session)
    }
    self.tables = tables
    role = try await session.roleAndDatabase().role
  }

  public func table(_ name: TableName) -> WarehouseTable? {
    tables[name]
  }

  /// The tables that the holds of the definition's rows are named after.
  public var holdTables: Set<TableName> { Set(tables.values.map(\.holdTable)) }

  /// A table by its name with its schema, whether or not the definition names it; nil if there is none.
  public func table(
    resolved name: TableName, on session: some Session
  ) async throws -> WarehouseTable? {
    if let known = tables.values.first(where: { $0.resolvedName == name }) { return known }
    return try await Self.lookUp(name, on: session)
  }

  /// Below this, 8 MiB, a stale visibility map costs nothing that anybody would notice.
  private static let pagesWorthVacuuming: Int64 = 1024

  static func lookUp(
    _ name: TableName, on session: some Session
  ) async throws -> WarehouseTable? {
    guard
      let row = try await session.query(
        """
        SELECT c.oid::bigint, c.relkind::text,
               CASE WHEN c.relpages < \(pagesWorthVacuuming) THEN 1
                    ELSE c.relallvisible::float8 / c.relpages END,
               has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'UPDATE'),
               has_table_privilege(c.oid, 'DELETE'), has_schema_privilege(n.oid, 'USAGE'),
               n.nspname
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = $1
          AND n.nspname = coalesce($2, (
            SELECT s.name FROM pg_catalog.unnest(current_schemas(false)) WITH ORDINALITY AS s (name, place)
            -- A role may be called as the ledger's schema is, and has that first in its path then.
            WHERE s.name NOT IN ('lethe', 'lethe_migrations')
              AND EXISTS (SELECT FROM pg_class AS o
                          WHERE o.relname = $1 AND o.relnamespace = to_regnamespace(quote_ident(s.name)))
            ORDER BY s.place LIMIT 1))
        """, .text(name.name), Parameter(name.schema)
      ).firstRow(
        as: Int64.self, String.self, Double.self, Bool.self, Bool.self, Bool.self, Bool.self,
        String.self)
    else { return nil }
    let columns = try await session.query(
      """
      SELECT a.attname, format_type(a.atttypid, -1),
             (WITH RECURSIVE type AS (
                SELECT typtype, oid, typbasetype FROM pg_type WHERE oid = a.atttypid
                UNION ALL
                SELECT b.typtype, b.oid, b.typbasetype FROM pg_type AS b JOIN type AS d
                  ON d.typtype = 'd' AND b.oid = d.typbasetype)
              SELECT format_type(oid, -1) FROM type WHERE typtype <> 'd'),
             format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, a.attgenerated <> '',
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum),
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indisunique
                       AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL)
               -- An index of a table does not see into the tables that inherit from it.
               AND NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS c ON c.oid = inhparent
                               WHERE inhparent = a.attrelid AND c.relkind = 'r'),
             \(holdsTimes), has_column_privilege(a.attrelid, a.attnum, 'UPDATE'),
             (SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
              WHERE t.oid = a.atttypid AND n.nspname <> 'pg_catalog')
      FROM pg_attribute AS a
      WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
      """, .integer(row.0)
    ).rows(
      as: String.self, String.self, String.self, String.self, Bool.self, Bool.self, Bool.self,
      Bool.self, Bool.self, Bool.self, String?.self)
    let granted = [row.3, row.4, row.5]
    let resolvedName = TableName(schema: row.7, name: name.name)
    let identity = try await identity(of: row.0, resolvedName, on: session)
    let columnsByName = Dictionary(
      uniqueKeysWithValues: columns.map {
        (
          $0.0,
          WarehouseTable.Column(
            name: $0.0, type: $0.1, baseType: $0.2, declaredType: $0.3, isNullable: $0.4,
            isGenerated: $0.5, isUpdatable: $0.9, holdsTimes: $0.8, typeSchema: $0.10)
        )
      })
    return WarehouseTable(
      name: name, resolvedName: resolvedName, columns: columnsByName,
      kind: WarehouseTable.Kind(rawValue: row.1) ?? .other, isSchemaUsable: row.6,
      privileges: Set(
        zip(WarehouseTable.Privilege.allCases, granted).compactMap { $1 ? $0 : nil }),
      rowsHiddenFrom: try await hidden(row.0, on: session),
      rewritten: try await rewritten(row.0, on: session),
      visibleShare: row.2, indexedColumns: Set(columns.compactMap { $0.6 ? $0.0 : nil }),
      uniqueColumns: Set(columns.compactMap { $0.7 ? $0.0 : nil }),
      primaryKey: try await session.query(
        """
        SELECT a.attname
        FROM pg_index AS i, pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place),
             pg_attribute AS a
        WHERE i.indrelid = $1::bigint::oid AND i.indisprimary AND place <= i.indnkeyatts
          AND a.attrelid = i.indrelid AND a.attnum = k.attnum
        ORDER BY place
        """, .integer(row.0)
      ).rows(as: String.self),
      partitionColumns: Set(
        try await session.query(
          """
          \(treeCTE)
          SELECT DISTINCT a.attname
          FROM tree JOIN pg_partitioned_table AS p ON p.partrelid = tree.oid
          JOIN pg_attribute AS a ON a.attrelid = tree.oid AND a.attnum = ANY (p.partattrs::int2[])
          """, .integer(row.0)
        ).rows(as: String.self)),
      references: try await references(to: row.0, on: session),
      holdTable: identity.table, holdKey: identity.key.compactMap { columnsByName[$0] },
      distrust: identity.distrust, hasChildren: try await hasChildren(row.0, on: session))
  }

  /// Whether the type of the column `a` is a time, or a domain, array, range or row that has one in it.
  private static let holdsTimes = """
    (WITH RECURSIVE inside AS (
       SELECT a.atttypid AS oid
       UNION
       SELECT part.oid
       FROM inside JOIN pg_type AS t ON t.oid = inside.oid,
       LATERAL (
         SELECT t.typbasetype AS oid
         UNION ALL SELECT t.typelem WHERE t.typcategory = 'A'
         UNION ALL SELECT r.rngsubtype FROM pg_range AS r
                   WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
         UNION ALL SELECT m.atttypid FROM pg_attribute AS m
                   WHERE m.attrelid = t.typrelid AND m.attnum > 0 AND NOT m.attisdropped
       ) AS part
       WHERE part.oid <> 0)
     SELECT EXISTS (
       SELECT FROM inside
       WHERE oid IN ('date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype,
                     'timestamptz'::regtype)))
    """

  /// Whether other tables inherit from it, partitions apart.
  private static func hasChildren(_ table: Int64, on session: some Session) async throws -> Bool {
    try await session.query(
      """
      SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS c ON c.oid = inhparent
                     WHERE inhparent = $1::bigint::oid AND c.relkind <> 'p')
      """, .integer(table)
    ).onlyRow(as: Bool.self)
  }

  /// A table, its partitions and the tables that inherit from it.
  static let treeCTE = """
    WITH RECURSIVE tree AS (
      SELECT $1::bigint::oid AS oid
      UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    )
    """

  /// What a rule turns into something else.
  private static func rewritten(
    _ table: Int64, on session: some Session
  ) async throws -> Set<WarehouseTable.Privilege> {
    let words = try await session.query(
      """
      SELECT DISTINCT CASE ev_type WHEN '2' THEN 'UPDATE' ELSE 'DELETE' END FROM pg_rewrite
      WHERE ev_class = $1::bigint::oid AND ev_type IN ('2', '4') AND ev_enabled <> 'D'
      """, .integer(table)
    ).rows(as: String.self)
    return Set(words.compactMap(WarehouseTable.Privilege.init))
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
          AND EXISTS (SELECT FROM pg_catalog.unnest(polroles) AS r
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
      (SELECT pg_catalog.string_agg(a.attname, E'\\n' ORDER BY place)
       FROM pg_catalog.unnest(\(numbers)) WITH ORDINALITY AS n (attnum, place)
       JOIN pg_attribute AS a ON a.attrelid = \(relation) AND a.attnum = n.attnum)
      """
    }
    let referring = names("k.conkey", of: "k.conrelid")
    let referred = names("k.confkey", of: "k.confrelid")
    let keys = try await session.query(
      """
      \(treeCTE), whole AS (
        SELECT oid FROM tree UNION SELECT relid FROM pg_partition_ancestors($1::bigint::oid::regclass)
      )
      SELECT k.conname, s.nspname, c.relname, \(referring), \(referred),
             -- To empty a column that is NOT NULL is refused.
             CASE WHEN k.confdeltype = 'n' AND EXISTS (
               SELECT FROM pg_attribute AS a
               WHERE a.attrelid = k.conrelid AND a.attnotnull AND a.attnum = ANY (k.conkey)
                 -- PostgreSQL 15 and later can name the columns to empty.
                 AND (coalesce(jsonb_typeof(pg_catalog.to_jsonb(k) -> 'confdelsetcols'), 'null') <> 'array'
                      OR pg_catalog.to_jsonb(k) -> 'confdelsetcols' @> pg_catalog.to_jsonb(a.attnum::integer)))
             THEN 'a' ELSE k.confdeltype::text END,
             has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(s.oid, 'USAGE'),
             c.oid::bigint,
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
                       AND i.indkey[0] = ANY (k.conkey)),
             -- PostgreSQL 18 has keys over periods, the last column, and keys that are only declared.
             coalesce(pg_catalog.to_jsonb(k) ->> 'conperiod' = 'true', false)
      FROM whole JOIN pg_constraint AS k ON k.confrelid = whole.oid
      JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS s ON s.oid = c.relnamespace
      WHERE k.contype = 'f' AND k.conparentid = 0
        AND pg_catalog.to_jsonb(k) ->> 'conenforced' IS DISTINCT FROM 'false'
      ORDER BY 2, 3, 1
      """, .integer(table)
    ).rows(
      as: String.self, String.self, String.self, String.self, String.self, String.self, Bool.self,
      Int64.self, Bool.self, Bool.self)
    var references: [WarehouseTable.ForeignKey] = []
    for row in keys {
      references.append(
        WarehouseTable.ForeignKey(
          constraint: row.0, table: TableName(schema: row.1, name: row.2),
          wholes: try await wholes(of: row.7, on: session),
          columns: row.3.split(separator: "\n").map(String.init),
          referencedColumns: row.4.split(separator: "\n").map(String.init),
          isRestricting: ["a", "r"].contains(row.5), isCascading: row.5 == "c", isReadable: row.6,
          isIndexed: row.8, isOfPeriods: row.9))
    }
    return references
  }

  /// The tables that a table is a partition of, or inherits from.
  private static func wholes(
    of table: Int64, on session: some Session
  ) async throws -> [TableName] {
    try await session.query(
      """
      WITH RECURSIVE whole AS (
        SELECT inhparent FROM pg_inherits WHERE inhrelid = $1::bigint::oid
        UNION SELECT p.inhparent FROM pg_inherits AS p JOIN whole ON p.inhrelid = whole.inhparent
      )
      SELECT s.nspname, c.relname FROM whole JOIN pg_class AS c ON c.oid = whole.inhparent
      JOIN pg_namespace AS s ON s.oid = c.relnamespace
      """, .integer(table)
    ).rows(as: String.self, String.self).map { TableName(schema: $0.0, name: $0.1) }
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
