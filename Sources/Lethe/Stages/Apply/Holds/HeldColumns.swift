import Definitions
import PostgreSQL
import Warehouse

/// Follows other names of the columns and tables that holds speak of.
///
/// A name that is still there means what it says: many migrations put another column or table in the place of the
/// former one. Only what is not there any more is looked for by what PostgreSQL knows it by.
struct HeldColumns {
  let connection: Connection
  let catalog: Catalog

  /// Notes what PostgreSQL knows the columns by that the changes may hide and name rows by.
  func note(_ plan: ApplyPlan) async throws {
    for change in plan.changes where change.kind.hiding != nil {
      guard let key = change.holdKey, let table = TableName(key.table)
      else { continue }
      try await connection.execute(
        """
        INSERT INTO lethe.held_column AS h (table_name, column_name, relation, attribute, cluster)
        SELECT \(key.table), a.attname, a.attrelid, a.attnum, lethe.cluster()
               FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = \(table.quoted)::regclass
          AND a.attname = ANY (\(key.names + change.kind.columnsSet)::text[]) AND NOT a.attisdropped
        ON CONFLICT (table_name, column_name) DO UPDATE
        SET relation = excluded.relation, attribute = excluded.attribute, cluster = excluded.cluster
        WHERE (h.relation, h.attribute, h.cluster)
          IS DISTINCT FROM (excluded.relation, excluded.attribute, excluded.cluster)
        """)
    }
  }

  /// Has the holds, and what goes with them, use the names of today.
  func follow() async throws {
    guard !(try await moves()).isEmpty else { return }
    try await connection.withTransaction { transaction in
      // Another chunk may follow the same names at this moment. Where columns take each other's names, doing
      // that twice would be to do something else.
      try await transaction.execute(
        "LOCK TABLE lethe.held_column IN SHARE ROW EXCLUSIVE MODE")
      for move in try await moves(on: transaction) { try await follow(move, transaction) }
    }
  }

  /// A table of which something has another name.
  struct Move {
    let table: String
    let tableNow: String
    /// By the name before.
    var renamed: [String: String] = [:]
    var dropped: [String] = []
  }

  /// A name that holds use, and what has it today.
  private struct HeldName {
    let table: String
    let column: String
    let tableNow: TableName
    let columnNow: String
    let isDropped: Bool
    let isSameCluster: Bool

    init(_ row: Row) throws {
      table = try row["table_name"]
      column = try row["column_name"]
      tableNow = TableName(schema: try row["nspname"], name: try row["relname"])
      columnNow = try row["attname"]
      isDropped = try row["attisdropped"]
      isSameCluster = try row["is_same_cluster"]
    }
  }

  func moves() async throws -> [Move] {
    try await moves(on: connection)
  }

  private func moves(on session: some Session) async throws -> [Move] {
    let rows = try await session.query(
      """
      SELECT h.table_name, h.column_name, n.nspname, c.relname, a.attname, a.attisdropped,
             h.cluster IS NOT NULL AND h.cluster = lethe.cluster() AS is_same_cluster
      FROM lethe.held_column AS h
      JOIN pg_catalog.pg_class AS c ON c.oid = h.relation
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = h.relation AND a.attnum = h.attribute
      WHERE h.cluster IS NULL OR h.cluster = lethe.cluster()
      ORDER BY 1, 2
      """
    ).rows.map { try HeldName($0) }
    var moves: [String: Move] = [:]
    for row in rows {
      let (table, column, now) = (row.table, row.column, row.tableNow)
      let (columnNow, isDropped) = (row.columnNow, row.isDropped)
      let isMoved = now.written != table
      // In another cluster, the number may be another table's.
      if isMoved {
        guard row.isSameCluster, try await isMovedHere(table, now, session) else { continue }
      }
      var move = moves[table] ?? Move(table: table, tableNow: now.written)
      if isDropped || columnNow != column,
        try await catalog.table(resolved: now, on: session)?.columns[column] == nil
      {
        if isDropped { move.dropped.append(column) } else { move.renamed[column] = columnNow }
      }
      moves[table] = move
    }
    // A new name that was another held column's before: that one has a new name, too.
    // As many rounds as a chain of such names can have links.
    for row in rows.flatMap({ _ in rows }) {
      let (table, column) = (row.table, row.column)
      let (columnNow, isDropped) = (row.columnNow, row.isDropped)
      guard moves[table]?.renamed.values.contains(column) == true, columnNow != column,
        moves[table]?.renamed[column] == nil, moves[table]?.dropped.contains(column) == false
      else { continue }
      if isDropped {
        moves[table]?.dropped.append(column)
      } else {
        moves[table]?.renamed[column] = columnNow
      }
    }
    return moves.values.filter {
      $0.table != $0.tableNow || !$0.renamed.isEmpty || !$0.dropped.isEmpty
    }.sorted { $0.table < $1.table }
  }

  /// Whether nothing has the former name, and the definition speaks of the table by its new one.
  private func isMovedHere(
    _ table: String, _ now: TableName, _ session: some Session
  ) async throws -> Bool {
    guard catalog.holdTables.contains(now), let former = TableName(table) else { return false }
    return try await catalog.table(resolved: former, on: session) == nil
  }

  private func follow(_ move: Move, _ transaction: Transaction) async throws {
    let names = move.renamed.map { "\(literal: $0), \(literal: $1)" as SQL }
    let map: SQL = "pg_catalog.jsonb_build_object(\(names.joined(separator: ", ")))"
    // What is left of an object, by the names of today.
    func object(_ column: SQL) -> SQL {
      """
      (SELECT coalesce(pg_catalog.jsonb_object_agg(coalesce(\(map) ->> e.key, e.key), e.value), '{}')
       FROM pg_catalog.jsonb_each(\(column) - \(move.dropped)::text[]) AS e)
      """
    }
    func array(_ column: SQL) -> SQL {
      """
      ARRAY (SELECT coalesce(\(map) ->> e.name, e.name) FROM pg_catalog.unnest(\(column)) AS e (name)
             WHERE NOT e.name = ANY (\(move.dropped)::text[])
             ORDER BY coalesce(\(map) ->> e.name, e.name) COLLATE "C")
      """
    }
    _ = try await transaction.run(
      """
      UPDATE lethe.holder AS r SET columns = \(array("r.columns"))
      FROM lethe.hold AS h WHERE h.hold_id = r.hold_id AND h.table_name = \(move.table)
      """)
    // A row's key is never left without a column: what names it is lost with that.
    _ = try await transaction.run(
      """
      UPDATE lethe.hold AS h
      SET table_name = \(move.tableNow), former = \(object("h.former")), set_to = \(object("h.set_to")),
          row_key = (SELECT pg_catalog.jsonb_object_agg(coalesce(\(map) ->> e.key, e.key), e.value)
                     FROM pg_catalog.jsonb_each(h.row_key) AS e)
      WHERE h.table_name = \(move.table)
      """)
    _ = try await transaction.run(
      """
      WITH emptied AS (
        DELETE FROM lethe.hold WHERE table_name = \(move.tableNow) AND set_to = '{}' RETURNING *
      )
      INSERT INTO lethe.closed_hold (hold_id, table_name, row_key, row_type, row_id, held_at, outcome)
      SELECT hold_id, table_name, row_key, row_type, row_id, held_at, 'dropped' FROM emptied
      """)
    _ = try await transaction.run(
      """
      WITH former AS (DELETE FROM lethe.held_key WHERE table_name = \(move.table) RETURNING key_columns)
      INSERT INTO lethe.held_key (table_name, key_columns)
      SELECT DISTINCT \(move.tableNow), ARRAY (SELECT coalesce(\(map) ->> e.name, e.name)
                                 FROM pg_catalog.unnest(f.key_columns) AS e (name)
                                 ORDER BY coalesce(\(map) ->> e.name, e.name) COLLATE "C")
      FROM former AS f
      ON CONFLICT DO NOTHING
      """)
    _ = try await transaction.run(
      """
      WITH former AS (DELETE FROM lethe.held_column WHERE table_name = \(move.table) RETURNING *)
      INSERT INTO lethe.held_column (table_name, column_name, relation, attribute, cluster)
      SELECT \(move.tableNow), coalesce(\(map) ->> f.column_name, f.column_name), f.relation,
             f.attribute, f.cluster
      FROM former AS f WHERE NOT f.column_name = ANY (\(move.dropped)::text[])
      ON CONFLICT DO NOTHING
      """)
  }
}
