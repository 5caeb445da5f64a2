import Definitions
import PostgreSQL

/// The key that identifies the rows of a table, and whether a row's version shows which transaction wrote it.
struct RowIdentity: Sendable {
  /// The table by which rows are identified. For a partition, this is the topmost partitioned table, if it can be used
  /// and has a key.
  let table: TableName
  /// The key's columns in order. Empty if the table has no key.
  let key: [String]
  /// Why the versions of the rows cannot be used. Nil if they can be used.
  let versionProblem: VersionProblem?
}

/// Why the version of a row (`xmin`) does not show which transaction wrote it.
enum VersionProblem: Sendable, Equatable {
  /// A part of the table is on another server.
  case foreignPart(TableName)
  /// The table's rows are on other servers.
  case distributed(TableName)
  /// The table uses another access method than heap.
  case otherStorage(TableName, String)
}

extension Catalog {
  /// - Parameter name: the table's name with its schema.
  static func identity(
    of table: Int64, _ name: TableName, on session: some Session
  ) async throws -> RowIdentity {
    if let root = try await usableRoot(of: table, on: session) {
      let key = try await key(of: root.id, on: session)
      if !key.isEmpty {
        return RowIdentity(
          table: root.name, key: key,
          versionProblem: try await versionProblem(of: root.id, on: session))
      }
    }
    return RowIdentity(
      table: name, key: try await key(of: table, on: session),
      versionProblem: try await versionProblem(of: table, on: session))
  }

  /// The topmost partitioned table of a partition. Nil if the table is not a partition, or if the role cannot read and
  /// change rows through that table.
  private static func usableRoot(
    of table: Int64, on session: some Session
  ) async throws -> (id: Int64, name: TableName)? {
    try await session.query(
      """
      SELECT c.oid::bigint, n.nspname, c.relname
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.oid = pg_partition_root(\(table)::bigint::oid::regclass) AND c.oid <> \(table)::bigint::oid
        -- UPDATE on some columns is enough: a row's identity must not depend on how UPDATE is granted.
        AND has_table_privilege(c.oid, 'SELECT') AND has_any_column_privilege(c.oid, 'UPDATE')
        AND has_schema_privilege(n.oid, 'USAGE') AND NOT row_security_active(c.oid)
        AND NOT EXISTS (SELECT FROM pg_rewrite
                        WHERE ev_class = c.oid AND ev_type = '2' AND ev_enabled <> 'D')
      """
    ).firstRow(as: Int64.self, String.self, String.self)
      .map { (id: $0.0, name: TableName(schema: $0.1, name: $0.2)) }
  }

  /// The primary key, else the replica identity, else the unique index with the fewest columns. An index does not cover
  /// the tables that inherit from its table, so a table with such children has no key.
  private static func key(of table: Int64, on session: some Session) async throws -> [String] {
    try await session.query(
      """
      SELECT k.attname
      FROM (
        SELECT i.indexrelid, i.indrelid, i.indkey::int2[] AS columns, i.indnkeyatts
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE i.indrelid = \(table)::bigint::oid AND i.indisunique AND i.indisvalid
          AND i.indpred IS NULL AND i.indexprs IS NULL
          AND (i.indisprimary OR i.indimmediate)
          AND NOT EXISTS (SELECT FROM pg_attribute AS a
                          WHERE a.attrelid = i.indrelid AND NOT a.attnotnull
                            AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
          AND NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS p ON p.oid = inhparent
                          WHERE inhparent = i.indrelid AND p.relkind <> 'p')
        ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, c.relname
        LIMIT 1
      ) AS best,
      LATERAL (
        SELECT a.attname, place
        FROM generate_series(0, best.indnkeyatts - 1) AS place
        JOIN pg_attribute AS a
          ON a.attrelid = best.indrelid AND a.attnum = best.columns[place]
      ) AS k
      ORDER BY k.place
      """
    ).rows(as: String.self)
  }

  // MARK: Row versions

  /// Why the row versions of a table cannot be used. Nil if they can be used. If several parts have the same kind of
  /// problem, the result names the first part in the order of names.
  private static func versionProblem(
    of table: Int64, on session: some Session
  ) async throws -> VersionProblem? {
    func parts(_ last: SQL) -> SQL {
      """
      \(treeCTE(of: table))
      SELECT n.nspname, c.relname, \(last)
      FROM tree JOIN pg_class AS c ON c.oid = tree.oid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      """
    }
    if let foreign = try await session.query(
      parts("c.relkind::text") + " WHERE c.relkind = 'f' ORDER BY 1, 2 LIMIT 1"
    ).firstRow(as: String.self, String.self, String.self) {
      return .foreignPart(TableName(schema: foreign.0, name: foreign.1))
    }
    if let other = try await session.query(
      parts("m.amname")
        + """
         JOIN pg_am AS m ON m.oid = c.relam
        WHERE c.relkind = 'r' AND m.amhandler <> 'pg_catalog.heap_tableam_handler'::regproc
        ORDER BY 1, 2 LIMIT 1
        """
    ).firstRow(as: String.self, String.self, String.self) {
      return .otherStorage(TableName(schema: other.0, name: other.1), other.2)
    }
    // Citus lists its distributed tables in pg_dist_partition.
    let hasCitus = try await session.query(
      "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
    ).onlyRow(as: Bool.self)
    guard hasCitus else { return nil }
    return try await session.query(
      parts("''")
        + """
         WHERE EXISTS (SELECT FROM pg_catalog.pg_dist_partition AS d
                      WHERE d.logicalrelid::oid = c.oid)
        ORDER BY 1, 2 LIMIT 1
        """
    ).firstRow(as: String.self, String.self, String.self)
      .map { .distributed(TableName(schema: $0.0, name: $0.1)) }
  }
}
