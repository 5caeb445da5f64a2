public import Definitions
public import PostgreSQL

/// A table that stores rows itself, or a foreign table: an ordinary table, a leaf partition, or a table that inherits
/// from another.
public struct TablePart: Sendable {
  public let oid: Int64
  public let name: TableName
  /// Whether its rows are on another server.
  public let isForeign: Bool
  /// Whether a query can read it by its own name: the role has the privileges, and row security is not active.
  /// Otherwise the query names the parent table, and the planner must exclude the other parts.
  public let isReadable: Bool
  /// Its partition constraint, with the names of its columns; nil if it has none.
  public let condition: String?
}

/// A trigger that fires when Lethe changes rows: a trigger that the operator created, or a guard's trigger.
public struct FiringTrigger: Sendable, Hashable {
  public let name: String
  /// The table that has the trigger, with its schema.
  public let table: String
  /// The function's name with its schema.
  public let function: String
  /// Whether the source of its function seems to write rows.
  public let seemsToCopy: Bool

  public var label: String { "\(name) of \(table)" }
}

/// The parts of a table, and the triggers that its statements fire.
extension Catalog {
  /// The parts in the order of their names.
  public func parts(
    of table: WarehouseTable, on session: some Session
  ) async throws -> [TablePart] {
    try await session.query(
      """
      WITH RECURSIVE tree AS (
        SELECT \(table.quoted)::regclass::oid AS oid
        UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
      )
      SELECT c.oid::bigint, n.nspname, c.relname, c.relkind = 'f' AS is_foreign,
             has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
               AND NOT row_security_active(c.oid) AS is_readable,
             pg_get_partition_constraintdef(c.oid) AS condition
      FROM tree JOIN pg_class AS c ON c.oid = tree.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'f') ORDER BY 2, 3
      """
    ).rows.map { row in
      try TablePart(
        oid: row["oid"], name: TableName(schema: row["nspname"], name: row["relname"]),
        isForeign: row["is_foreign"], isReadable: row["is_readable"],
        condition: row["condition"])
    }
  }

  /// The triggers that fire in this session when rows are changed: those of a table, of its partitions and of the
  /// tables that inherit from it.
  /// - Parameter columns: the columns that an update sets; nil for a deletion.
  public func triggers(
    of table: WarehouseTable, setting columns: [String]?, on session: some Session
  ) async throws -> [FiringTrigger] {
    let moves = columns.map { !table.partitionColumns.isDisjoint(with: $0) } ?? false
    let name: SQL = "\(table.quoted)"
    // The bits of `tgtype`: 1 row, 4 INSERT, 8 DELETE, 16 UPDATE.
    let ofUpdate: SQL = """
      t.tgtype & 16 <> 0 AND (t.tgattr = '' OR EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::int2[])
          AND a.attname = ANY (\(columns)::text[])))
      """
    // An update that moves a row to another partition also fires row triggers of DELETE and INSERT.
    let fires: SQL =
      columns == nil
      ? "t.tgtype & 8 <> 0"
      : moves ? "(\(ofUpdate) OR t.tgtype & 1 = 1 AND t.tgtype & 12 <> 0)" : ofUpdate
    return try await session.query(
      """
      WITH RECURSIVE tree AS (
        SELECT \(name)::regclass::oid AS oid
        UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
      )
      SELECT t.tgname, n.nspname, c.relname, l.nspname || '.' || p.proname AS function,
             \(Self.copies) AS seems_to_copy
      FROM tree JOIN pg_trigger AS t ON t.tgrelid = tree.oid JOIN pg_class AS c ON c.oid = t.tgrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_namespace AS l ON l.oid = p.pronamespace
      WHERE \(Self.fires(on: name)) AND \(fires)
      ORDER BY 2, 3, 1
      """
    ).rows.map { row in
      try FiringTrigger(
        name: row["tgname"], table: "\(TableName(schema: row["nspname"], name: row["relname"]))",
        function: row["function"],
        seemsToCopy: row["seems_to_copy"])
    }
  }

  /// The condition that a trigger `t` on a part of a table fires when rows are changed through the table. A
  /// partition's copy of a trigger is not counted again, and a statement trigger fires only on the table itself.
  static func fires(on table: SQL) -> SQL {
    """
    NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
      AND (t.tgrelid = \(table)::regclass OR (t.tgparentid = 0 AND t.tgtype & 1 = 1))
    """
  }

  /// The condition that the source of a function `p` contains keywords of a statement that writes rows. They do not
  /// show what the function really does.
  static let copies: SQL = """
    p.prosrc ~* '\\m(insert\\s+into|merge\\s+into|copy|dblink\\w*|http\\w*)\\M'
    """
}
