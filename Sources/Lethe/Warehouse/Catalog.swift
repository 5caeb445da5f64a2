public import Definitions
public import PostgreSQL
import Vocabulary

/// The operator's tables that a definition names, as PostgreSQL's catalog described them at the time of reading.
public struct Catalog: Sendable {
  private let tables: [TableName: WarehouseTable]
  /// The role of the session.
  let role: String

  /// Looks up every table of the definition. The catalog does not contain a missing table, and `check` reports it.
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

  /// The tables by which the holds identify the definition's rows.
  public var holdTables: Set<TableName> { Set(tables.values.map(\.holdTable)) }

  /// The table with this name and schema, even if the definition does not name it. Nil if the table does not exist.
  public func table(
    resolved name: TableName, on session: some Session
  ) async throws -> WarehouseTable? {
    if let known = tables.values.first(where: { $0.resolvedName == name }) { return known }
    return try await Self.lookUp(name, on: session)
  }

  /// 8 MiB. In smaller tables, an outdated visibility map does not slow down scans noticeably.
  private static let pagesWorthVacuuming: Int64 = 1024

  static func lookUp(
    _ name: TableName, on session: some Session
  ) async throws -> WarehouseTable? {
    guard
      let row = try await session.query(
        """
        SELECT c.oid::bigint, c.relkind::text,
               CASE WHEN c.relpages < \(pagesWorthVacuuming) THEN 1
                    ELSE c.relallvisible::float8 / c.relpages END AS visible_share,
               has_table_privilege(c.oid, 'SELECT') AS may_select,
               has_table_privilege(c.oid, 'UPDATE') AS may_update,
               has_table_privilege(c.oid, 'DELETE') AS may_delete,
               has_schema_privilege(n.oid, 'USAGE') AS is_schema_usable, n.nspname
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = \(name.name)
          AND n.nspname = coalesce(\(name.schema), (
            SELECT s.name FROM pg_catalog.unnest(current_schemas(false)) WITH ORDINALITY AS s (name, place)
            -- If a role has the name of the ledger's schema, "$user" puts this schema first in the role's path.
            WHERE s.name NOT IN ('lethe', 'lethe_migrations')
              AND EXISTS (SELECT FROM pg_class AS o
                          WHERE o.relname = \(name.name)
                            AND o.relnamespace = to_regnamespace(quote_ident(s.name)))
            ORDER BY s.place LIMIT 1))
        """
      ).firstRow()
    else { return nil }
    let id: Int64 = try row["oid"]
    let columns = try await session.query(
      """
      SELECT a.attname, format_type(a.atttypid, -1) AS type,
             (WITH RECURSIVE type AS (
                SELECT typtype, oid, typbasetype FROM pg_type WHERE oid = a.atttypid
                UNION ALL
                SELECT b.typtype, b.oid, b.typbasetype FROM pg_type AS b JOIN type AS d
                  ON d.typtype = 'd' AND b.oid = d.typbasetype)
              SELECT format_type(oid, -1) FROM type WHERE typtype <> 'd') AS base_type,
             format_type(a.atttypid, a.atttypmod) AS declared_type, NOT a.attnotnull AS is_nullable,
             a.attgenerated <> '' AS is_generated,
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND i.indisvalid
                       AND i.indkey[0] = a.attnum) AS is_indexed,
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indisunique
                       AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL)
               -- An index does not cover the tables that inherit from its table.
               AND NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS c ON c.oid = inhparent
                               WHERE inhparent = a.attrelid AND c.relkind = 'r') AS is_unique,
             \(holdsTimes) AS holds_times,
             has_column_privilege(a.attrelid, a.attnum, 'UPDATE') AS is_updatable,
             (SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
              WHERE t.oid = a.atttypid AND n.nspname <> 'pg_catalog') AS type_schema
      FROM pg_attribute AS a
      WHERE a.attrelid = \(id)::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
      """
    ).rows
    let granted: [Bool] = try [row["may_select"], row["may_update"], row["may_delete"]]
    let resolvedName = TableName(schema: try row["nspname"], name: name.name)
    let identity = try await identity(of: id, resolvedName, on: session)
    var columnsByName: [String: WarehouseTable.Column] = [:]
    for column in columns {
      let name: String = try column["attname"]
      columnsByName[name] = try WarehouseTable.Column(
        name: name, type: column["type"], baseType: column["base_type"],
        declaredType: column["declared_type"], isNullable: column["is_nullable"],
        isGenerated: column["is_generated"], isUpdatable: column["is_updatable"],
        holdsTimes: column["holds_times"], typeSchema: column["type_schema"])
    }
    func names(where flag: String) throws -> Set<String> {
      Set(try columns.filter { try $0[flag] }.map { try $0["attname"] })
    }
    return WarehouseTable(
      name: name, resolvedName: resolvedName, columns: columnsByName,
      kind: WarehouseTable.Kind(rawValue: try row["relkind"]) ?? .other,
      isSchemaUsable: try row["is_schema_usable"],
      privileges: Set(
        zip(WarehouseTable.Privilege.allCases, granted).compactMap { $1 ? $0 : nil }),
      rowsHiddenFrom: try await hidden(id, on: session),
      rewritten: try await rewritten(id, on: session),
      visibleShare: try row["visible_share"], indexedColumns: try names(where: "is_indexed"),
      uniqueColumns: try names(where: "is_unique"),
      primaryKey: try await session.query(
        """
        SELECT a.attname
        FROM pg_index AS i, pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place),
             pg_attribute AS a
        WHERE i.indrelid = \(id)::bigint::oid AND i.indisprimary AND place <= i.indnkeyatts
          AND a.attrelid = i.indrelid AND a.attnum = k.attnum
        ORDER BY place
        """
      ).rows(as: String.self),
      partitionColumns: Set(
        try await session.query(
          """
          \(treeCTE(of: id))
          SELECT DISTINCT a.attname
          FROM tree JOIN pg_partitioned_table AS p ON p.partrelid = tree.oid
          JOIN pg_attribute AS a ON a.attrelid = tree.oid AND a.attnum = ANY (p.partattrs::int2[])
          """
        ).rows(as: String.self)),
      references: try await references(to: id, on: session),
      holdTable: identity.table, holdKey: identity.key.compactMap { columnsByName[$0] },
      versionProblem: identity.versionProblem, hasChildren: try await hasChildren(id, on: session))
  }

  /// Whether the type of the column `a` is a time, or a domain, array, range or row type that contains a time.
  private static let holdsTimes: SQL = """
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

  /// Whether other tables inherit from the table. Partitions do not count.
  private static func hasChildren(_ table: Int64, on session: some Session) async throws -> Bool {
    try await session.query(
      """
      SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS c ON c.oid = inhparent
                     WHERE inhparent = \(table)::bigint::oid AND c.relkind <> 'p')
      """
    ).onlyRow(as: Bool.self)
  }

  /// The CTE `tree`: a table, its partitions and the tables that inherit from it.
  static func treeCTE(of table: Int64) -> SQL {
    """
    WITH RECURSIVE tree AS (
      SELECT \(table)::bigint::oid AS oid
      UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    )
    """
  }

  /// The statements (UPDATE, DELETE) that a rule rewrites.
  private static func rewritten(
    _ table: Int64, on session: some Session
  ) async throws -> Set<WarehouseTable.Privilege> {
    let words = try await session.query(
      """
      SELECT DISTINCT CASE ev_type WHEN '2' THEN 'UPDATE' ELSE 'DELETE' END FROM pg_rewrite
      WHERE ev_class = \(table)::bigint::oid AND ev_type IN ('2', '4') AND ev_enabled <> 'D'
      """
    ).rows(as: String.self)
    return Set(words.compactMap(WarehouseTable.Privilege.init))
  }

  /// The statements from which row-level security may hide rows. A statement certainly sees all rows only if a
  /// permissive policy and all restrictive policies have the condition `true`.
  private static func hidden(
    _ table: Int64, on session: some Session
  ) async throws -> Set<WarehouseTable.Privilege> {
    let words = try await session.query(
      """
      WITH policy AS (
        SELECT polcmd, polpermissive, pg_get_expr(polqual, polrelid) = 'true' AS is_open
        FROM pg_policy
        WHERE polrelid = \(table)::bigint::oid
          AND EXISTS (SELECT FROM pg_catalog.unnest(polroles) AS r
                      WHERE r = 0 OR pg_has_role(current_user, r, 'USAGE'))
      )
      SELECT command.name
      FROM (VALUES ('SELECT', 'r'), ('UPDATE', 'w'), ('DELETE', 'd')) AS command (name, letter)
      WHERE row_security_active(\(table)::bigint::oid)
        AND (NOT EXISTS (SELECT FROM policy
                         WHERE polpermissive AND is_open AND polcmd::text IN (letter, '*'))
             OR EXISTS (SELECT FROM policy
                        WHERE NOT polpermissive AND NOT is_open AND polcmd::text IN (letter, '*')))
      """
    ).rows(as: String.self)
    return Set(words.compactMap(WarehouseTable.Privilege.init))
  }

  private static func references(
    to table: Int64, on session: some Session
  ) async throws -> [WarehouseTable.ForeignKey] {
    func names(_ numbers: SQL, of relation: SQL) -> SQL {
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
      \(treeCTE(of: table)), whole AS (
        SELECT oid FROM tree UNION SELECT relid FROM pg_partition_ancestors(\(table)::bigint::oid::regclass)
      )
      SELECT k.conname, s.nspname, c.relname, \(referring) AS columns, \(referred) AS referred_columns,
             -- SET NULL fails for a column that is NOT NULL, so such a key blocks deletes.
             CASE WHEN k.confdeltype = 'n' AND EXISTS (
               SELECT FROM pg_attribute AS a
               WHERE a.attrelid = k.conrelid AND a.attnotnull AND a.attnum = ANY (k.conkey)
                 -- In PostgreSQL 15 and later, SET NULL can name some of the columns.
                 AND (coalesce(jsonb_typeof(pg_catalog.to_jsonb(k) -> 'confdelsetcols'), 'null') <> 'array'
                      OR pg_catalog.to_jsonb(k) -> 'confdelsetcols' @> pg_catalog.to_jsonb(a.attnum::integer)))
             THEN 'a' ELSE k.confdeltype::text END AS on_delete,
             has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(s.oid, 'USAGE') AS is_readable,
             c.oid::bigint,
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
                       AND i.indkey[0] = ANY (k.conkey)) AS is_indexed,
             -- In PostgreSQL 18, the last column of a key can be a period, and a key can be NOT ENFORCED.
             coalesce(pg_catalog.to_jsonb(k) ->> 'conperiod' = 'true', false) AS has_period
      FROM whole JOIN pg_constraint AS k ON k.confrelid = whole.oid
      JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS s ON s.oid = c.relnamespace
      WHERE k.contype = 'f' AND k.conparentid = 0
        AND pg_catalog.to_jsonb(k) ->> 'conenforced' IS DISTINCT FROM 'false'
      ORDER BY 2, 3, 1
      """
    ).rows
    var references: [WarehouseTable.ForeignKey] = []
    func lines(_ text: String) -> [String] { text.split(separator: "\n").map(String.init) }
    for row in keys {
      let onDelete: String = try row["on_delete"]
      references.append(
        WarehouseTable.ForeignKey(
          constraint: try row["conname"],
          table: TableName(schema: try row["nspname"], name: try row["relname"]),
          parents: try await parents(of: try row["oid"], on: session),
          columns: lines(try row["columns"]), referencedColumns: lines(try row["referred_columns"]),
          isRestricting: ["a", "r"].contains(onDelete), isCascading: onDelete == "c",
          isReadable: try row["is_readable"], isIndexed: try row["is_indexed"],
          hasPeriod: try row["has_period"]))
    }
    return references
  }

  /// The tables that a table is a partition of or inherits from, directly or through other tables.
  private static func parents(
    of table: Int64, on session: some Session
  ) async throws -> [TableName] {
    try await session.query(
      """
      WITH RECURSIVE whole AS (
        SELECT inhparent FROM pg_inherits WHERE inhrelid = \(table)::bigint::oid
        UNION SELECT p.inhparent FROM pg_inherits AS p JOIN whole ON p.inhrelid = whole.inhparent
      )
      SELECT s.nspname, c.relname FROM whole JOIN pg_class AS c ON c.oid = whole.inhparent
      JOIN pg_namespace AS s ON s.oid = c.relnamespace
      """
    ).rows(as: String.self, String.self).map { TableName(schema: $0.0, name: $0.1) }
  }
}

extension Definition {
  /// All tables that the definition names, in its order.
  var tableNames: [TableName] {
    func names(_ targets: [Target]) -> [TableName] {
      targets.flatMap { [$0.table] + names($0.targets) }
    }
    return datasets.flatMap { [$0.table] + names($0.targets) }
  }
}
