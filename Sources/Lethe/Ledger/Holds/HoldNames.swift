import CrashPoints
import Foundation
package import PostgreSQL
package import SQLText

/// Records the names of the tables, columns and keys of held rows, and changes them in the holds after a rename.
package struct HoldNames: Sendable {
  private let connection: Connection

  package init(connection: Connection) {
    self.connection = connection
  }

  // MARK: Keys

  /// A key that identifies the rows of a table, at present or in the past.
  package struct Key: Sendable {
    package let table: String
    package let columns: [String]

    package init(table: String, columns: [String]) {
      self.table = table
      self.columns = columns
    }
  }

  package func known() async throws -> [Key] {
    try await connection.query(
      "SELECT table_name, pg_catalog.array_to_json(key_columns)::text FROM lethe.held_key ORDER BY 1, 2"
    ).rows(as: String.self, String.self).map {
      Key(table: $0.0, columns: try JSONDecoder().decode([String].self, from: Data($0.1.utf8)))
    }
  }

  /// Changes the row keys of holds to another key of the table. A hold keeps its key if its row is missing,
  /// if more than one row matches, or if another hold already has the new key.
  /// - Parameters:
  ///   - rows: the table of the rows `t`.
  ///   - key: SQL of a row's new `row_key`.
  ///   - isRow: the condition that the row with the given alias is the row of a hold `h`.
  package func rename(
    _ former: Key, to now: Key, rows: SQL, key: SQL, isRow: @Sendable (SQL) -> SQL
  ) async throws {
    let (row, other) = (isRow("t"), isRow("o"))
    try await connection.withTransaction(recording: .holdKeysRenamed) { transaction in
      try await transaction.execute(
        """
        UPDATE lethe.hold AS h SET table_name = \(now.table), row_key = \(key)
        FROM \(rows) AS t
        WHERE h.table_name = \(former.table)
          AND ARRAY (SELECT k FROM jsonb_object_keys(h.row_key) AS k
            ORDER BY k COLLATE "C") = \(former.columns)::text[]
          AND \(row)
          AND (SELECT count(*) FROM (SELECT FROM \(rows) AS o WHERE \(other) LIMIT 2) AS o) = 1
          AND NOT EXISTS (SELECT FROM lethe.hold AS g
                          WHERE g.table_name = \(now.table) AND g.row_key = \(key))
        """)
      try await forget(former, on: transaction)
      try await transaction.execute(
        """
        INSERT INTO lethe.held_key (table_name, key_columns) VALUES (\(now.table), \(now.columns)::text[])
        ON CONFLICT DO NOTHING
        """)
    }
  }

  /// Ends the holds of rows that no longer exist.
  /// - Parameters:
  ///   - rows: the table of the rows `t`.
  ///   - isRow: the condition that a row `t` is the row of a hold `h`.
  ///   - isFormer: whether the table has another key now. Then the key is forgotten if no hold has it any more.
  package func endHoldsOfLostRows(
    _ known: Key, rows: SQL, isRow: SQL, isFormer: Bool
  ) async throws {
    try await connection.withTransaction(recording: .holdsOfLostRowsEnded) { transaction in
      try await transaction.execute(
        """
        WITH lost AS (
          DELETE FROM lethe.hold AS h
          WHERE h.table_name = \(known.table)
            AND ARRAY (SELECT k FROM jsonb_object_keys(h.row_key) AS k
              ORDER BY k COLLATE "C") = \(known.columns)::text[]
            AND NOT EXISTS (SELECT FROM \(rows) AS t WHERE \(isRow))
          RETURNING h.*
        )
        INSERT INTO lethe.closed_hold
          (hold_id, table_name, row_key, row_type, row_id, held_at, outcome)
        SELECT hold_id, table_name, row_key, row_type, row_id, held_at, 'gone' FROM lost
        """)
      if isFormer { try await forget(known, on: transaction) }
    }
  }

  /// Forgets a key of a table if no hold has it. A hold whose row cannot be identified keeps its key until it ends.
  private func forget(_ key: Key, on transaction: Transaction) async throws {
    try await transaction.execute(
      """
      DELETE FROM lethe.held_key
      WHERE table_name = \(key.table) AND key_columns = \(key.columns)::text[]
        AND NOT EXISTS (
          SELECT FROM lethe.hold AS h
          WHERE h.table_name = \(key.table)
            AND ARRAY (SELECT k FROM jsonb_object_keys(h.row_key) AS k
              ORDER BY k COLLATE "C") = \(key.columns)::text[])
      """)
  }

  // MARK: Columns

  /// Records the OID of a table and the attribute numbers (attnum) of its columns. With them, Lethe finds the columns
  /// after they are renamed.
  /// - Parameters:
  ///   - table: the table's name in SQL.
  ///   - name: `lethe.hold.table_name`.
  package func note(_ columns: [String], of table: String, named name: String) async throws {
    try await connection.execute(
      recording: .heldColumnsNoted,
      """
      INSERT INTO lethe.held_column AS h (table_name, column_name, relation, attribute, cluster)
      SELECT \(name), a.attname, a.attrelid, a.attnum, lethe.cluster()
             FROM pg_catalog.pg_attribute AS a
      WHERE a.attrelid = \(table)::regclass
        AND a.attname = ANY (\(columns)::text[]) AND NOT a.attisdropped
      ON CONFLICT (table_name, column_name) DO UPDATE
      SET relation = excluded.relation, attribute = excluded.attribute, cluster = excluded.cluster
      WHERE (h.relation, h.attribute, h.cluster)
        IS DISTINCT FROM (excluded.relation, excluded.attribute, excluded.cluster)
      """)
  }

  /// A table that was renamed, or whose columns were renamed or dropped.
  package struct RenamedTable: Sendable {
    package let table: String
    package let tableNow: String
    /// The new names of columns, by their former names.
    package var columns: [String: String] = [:]
    package var dropped: [String] = []

    package init(table: String, tableNow: String) {
      self.table = table
      self.tableNow = tableNow
    }
  }

  /// Prevents other transactions from processing the same renames until this transaction ends.
  package func lock(on transaction: Transaction) async throws {
    try await transaction.execute("LOCK TABLE lethe.held_column IN SHARE ROW EXCLUSIVE MODE")
  }

  /// Changes the names of the table and its columns in the holds to the current names. Removes dropped columns, and
  /// ends the holds that have no column left.
  package func follow(_ rename: RenamedTable, on transaction: Transaction) async throws {
    let names = rename.columns.map { "\(literal: $0), \(literal: $1)" as SQL }
    let map: SQL = "pg_catalog.jsonb_build_object(\(names.joined(separator: ", ")))"
    // The JSON object with the current names of columns, and without dropped columns.
    func object(_ column: SQL) -> SQL {
      """
      (SELECT coalesce(pg_catalog.jsonb_object_agg(coalesce(\(map) ->> e.key, e.key), e.value), '{}')
       FROM pg_catalog.jsonb_each(\(column) - \(rename.dropped)::text[]) AS e)
      """
    }
    func array(_ column: SQL) -> SQL {
      """
      ARRAY (SELECT coalesce(\(map) ->> e.name, e.name) FROM pg_catalog.unnest(\(column)) AS e (name)
             WHERE NOT e.name = ANY (\(rename.dropped)::text[])
             ORDER BY coalesce(\(map) ->> e.name, e.name) COLLATE "C")
      """
    }
    _ = try await transaction.run(
      """
      UPDATE lethe.holder AS r SET columns = \(array("r.columns"))
      FROM lethe.hold AS h WHERE h.hold_id = r.hold_id AND h.table_name = \(rename.table)
      """)
    // Dropped columns stay in the row key, because nothing else identifies the row.
    _ = try await transaction.run(
      """
      UPDATE lethe.hold AS h
      SET table_name = \(rename.tableNow), former = \(object("h.former")), set_to = \(object("h.set_to")),
          row_key = (SELECT pg_catalog.jsonb_object_agg(coalesce(\(map) ->> e.key, e.key), e.value)
                     FROM pg_catalog.jsonb_each(h.row_key) AS e)
      WHERE h.table_name = \(rename.table)
      """)
    _ = try await transaction.run(
      """
      WITH emptied AS (
        DELETE FROM lethe.hold WHERE table_name = \(rename.tableNow) AND set_to = '{}' RETURNING *
      )
      INSERT INTO lethe.closed_hold (hold_id, table_name, row_key, row_type, row_id, held_at, outcome)
      SELECT hold_id, table_name, row_key, row_type, row_id, held_at, 'dropped' FROM emptied
      """)
    _ = try await transaction.run(
      """
      WITH former AS (DELETE FROM lethe.held_key WHERE table_name = \(rename.table) RETURNING key_columns)
      INSERT INTO lethe.held_key (table_name, key_columns)
      SELECT DISTINCT \(rename.tableNow), ARRAY (SELECT coalesce(\(map) ->> e.name, e.name)
                                 FROM pg_catalog.unnest(f.key_columns) AS e (name)
                                 ORDER BY coalesce(\(map) ->> e.name, e.name) COLLATE "C")
      FROM former AS f
      ON CONFLICT DO NOTHING
      """)
    _ = try await transaction.run(
      """
      WITH former AS (DELETE FROM lethe.held_column WHERE table_name = \(rename.table) RETURNING *)
      INSERT INTO lethe.held_column (table_name, column_name, relation, attribute, cluster)
      SELECT \(rename.tableNow), coalesce(\(map) ->> f.column_name, f.column_name), f.relation,
             f.attribute, f.cluster
      FROM former AS f WHERE NOT f.column_name = ANY (\(rename.dropped)::text[])
      ON CONFLICT DO NOTHING
      """)
  }
}
