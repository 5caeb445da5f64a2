import Definitions
import Foundation
import PostgreSQL
import Vocabulary

/// A table that stores rows of a guarded table: the table itself, a leaf partition, or a table that inherits from it.
struct GuardedLeafTable {
  /// A table through which rows can be inserted into the leaf.
  struct Level: Decodable {
    let sql: String
    /// The name in the server's messages.
    let label: String
    /// Columns of a unique index, for ON CONFLICT.
    let conflictTarget: String?
  }

  /// The columns of a partition key, and the bound of the partition that contains the leaf.
  struct Key: Decodable {
    /// Nil for an expression.
    let columns: [String?]
    let bound: String
  }

  /// The tables from the guarded table down to the leaf.
  let path: [Level]
  let keys: [Key]
  /// The leaf's partition constraint, with the names of its columns; nil if it has none.
  let condition: String?

  var label: String { path.last?.label ?? "" }
  /// The name as quoted by the server.
  private var name: String { path.last?.sql ?? "" }
  private var sql: SQL { SQL(trusted: name) }

  /// The error that no row for the test could be generated.
  struct NoRow: Error {
    let why: String
  }

  /// A row with an ID and the values of the partition keys.
  struct Row {
    let id: Int64
    let values: [(column: String, text: String?)]

    var columns: SQL {
      values.map { "\(identifier: $0.column)" as SQL }.joined(separator: ", ")
    }
    var literals: SQL {
      values.map { $0.text.map { "\(literal: $0)" } ?? "NULL" as SQL }.joined(separator: ", ")
    }
    var copyLine: String {
      values.map { value in
        value.text.map {
          $0.replacing("\\", with: "\\\\").replacing("\t", with: "\\t").replacing("\n", with: "\\n")
            .replacing("\r", with: "\\r")
        } ?? "\\N"
      }.joined(separator: "\t") + "\n"
    }
  }

  // MARK: The leaves

  static func all(of guarding: IngestGuard, on transaction: Transaction) async throws
    -> [GuardedLeafTable]
  {
    let rows = try await transaction.query(
      """
      WITH RECURSIVE tree AS (
        SELECT \(guarding.table.quoted)::regclass::oid AS oid,
               ARRAY[\(guarding.table.quoted)::regclass::oid] AS path
        UNION ALL
        SELECT i.inhrelid, t.path || i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
      )
      SELECT (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                'sql', pg_catalog.format('%I.%I', n.nspname, r.relname), 'label', n.nspname || '.' || r.relname,
                'conflictTarget', \(conflictTarget)) ORDER BY p.place)
              FROM pg_catalog.unnest(t.path) WITH ORDINALITY AS p (oid, place)
              JOIN pg_class AS r ON r.oid = p.oid JOIN pg_namespace AS n ON n.oid = r.relnamespace)::text,
             (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                'columns', (SELECT pg_catalog.json_agg(k.attname ORDER BY place)
                            FROM pg_catalog.unnest(w.partattrs::int2[]) WITH ORDINALITY AS a (attnum, place)
                            LEFT JOIN pg_attribute AS k
                              ON k.attrelid = w.partrelid AND k.attnum = a.attnum AND a.attnum > 0),
                'bound', pg_get_expr(r.relpartbound, r.oid))), '[]')
              FROM pg_partition_ancestors(t.oid) AS x (oid) JOIN pg_class AS r ON r.oid = x.oid
              JOIN pg_inherits AS i ON i.inhrelid = r.oid
              JOIN pg_partitioned_table AS w ON w.partrelid = i.inhparent)::text,
             pg_get_partition_constraintdef(t.oid)
      FROM tree AS t JOIN pg_class AS c ON c.oid = t.oid WHERE c.relkind IN ('r', 'f')
      ORDER BY pg_catalog.array_length(t.path, 1), c.relname
      """
    ).rows(as: String.self, String.self, String?.self)
    return try rows.map {
      GuardedLeafTable(
        path: try JSONDecoder().decode([Level].self, from: Data($0.0.utf8)),
        keys: try JSONDecoder().decode([Key].self, from: Data($0.1.utf8)), condition: $0.2)
    }
  }

  /// The columns of a unique index of the table `p`, if it has one that ON CONFLICT can name.
  private static let conflictTarget: SQL = """
    (SELECT (SELECT pg_catalog.string_agg(quote_ident(a.attname), ', ' ORDER BY k.place)
             FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.place <= i.indnkeyatts)
     FROM pg_index AS i
     WHERE i.indrelid = p.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
       AND i.indpred IS NULL AND i.indexprs IS NULL
     ORDER BY i.indisprimary DESC LIMIT 1)
    """

  // MARK: A row for the leaf

  /// Finds a row that the leaf's partition constraint allows and whose ID has no tombstone. If the leaf has an index on
  /// the IDs, none of its rows has this ID.
  /// - Throws: `NoRow` if there is no such row among the candidates, or if the table does not have the column with the
  ///   IDs; `PostgreSQLError` if the query fails.
  func row(_ guarding: IngestGuard, on transaction: Transaction) async throws -> Row {
    let columns = try await columns(guarding, on: transaction)
    let count = Candidates.count(columns: columns.filter(\.isKey).count)
    let sets = columns.map { column -> SQL in
      """
      (SELECT DISTINCT v::\(trusted: column.type) AS v FROM (
        \(Candidates(column: column, bounds: bounds(of: column.name), count: count, table: sql).sql)
      ) AS c (v)) AS \(identifier: "candidates of " + column.name) (\(identifier: column.name))
      """
    }
    guard let id = columns.first(where: \.isID) else {
      throw NoRow(why: "the table has no column \(guarding.id)")
    }
    let value: SQL = "k.\(identifier: id.name)"
    let text: SQL = id.isNumeric ? "trim_scale(\(value))::text" : "\(value)::text"
    let number: SQL = "(\(IDKind.integer.cast(text, from: .text)))"
    let unused: SQL =
      id.isIndexed
      ? "NOT EXISTS (SELECT FROM \(sql) AS r WHERE r.\(identifier: id.name) = \(value))"
      : "true"
    let found = try await transaction.query(
      """
      SELECT pg_catalog.json_build_array(\(columns.map { "k.\(identifier: $0.name)::text" as SQL }.joined(separator: ", ")))::text,
             \(number)
      FROM (SELECT * FROM \(sets.joined(separator: " CROSS JOIN "))) AS k
      WHERE \(number) IS NOT NULL AND (\(trusted: condition ?? "true")) AND \(unused)
        AND NOT EXISTS (SELECT FROM lethe.tombstone AS t
                        WHERE t.type = \(guarding.type.rawValue)::lethe.job_type AND t.id = \(number))
      LIMIT 1
      """
    ).firstRow(as: String.self, Int64.self)
    guard let (json, number) = found else {
      throw NoRow(why: "no row that fits its partition constraint could be generated")
    }
    let texts = try JSONDecoder().decode([String?].self, from: Data(json.utf8))
    return Row(id: number, values: Array(zip(columns.map(\.name), texts)))
  }

  struct Column {
    let name: String
    let type: String
    /// `pg_type.typcategory`.
    let category: String
    /// The number of digits of an ID that fit in the column.
    let digits: Int
    let isNumeric: Bool
    let isIndexed: Bool
    let isEnum: Bool
    let isID: Bool
    let isKey: Bool
  }

  /// The columns of the ID and of the partition keys.
  private func columns(
    _ guarding: IngestGuard, on transaction: Transaction
  ) async throws -> [Column] {
    let named = Set(keys.flatMap(\.columns).compactMap(\.self))
    let hasExpression = keys.contains { $0.columns.contains(nil) }
    return try await transaction.query(
      """
      SELECT a.attname, format_type(b.oid, m.mod) AS type,
             b.typcategory::text,
             CASE WHEN b.typname = 'int4' THEN 9 WHEN b.typname = 'varchar' AND m.mod > 0 THEN least(m.mod - 4, 18)
                  WHEN b.typname = 'numeric' AND m.mod > 0
                  THEN least(((m.mod - 4) >> 16 & 65535) - ((m.mod - 4) & 65535), 18)
                  ELSE 18 END AS digits,
             b.typname = 'numeric' AS is_numeric,
             EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND i.indisvalid
                       AND i.indkey[0] = a.attnum) AS is_indexed,
             b.typtype = 'e' AS is_enum, a.attname = \(guarding.id) AS is_id,
             a.attname = ANY (\(named.sorted())::text[]) OR \(hasExpression)
             AND a.attname <> \(guarding.id) AS is_key
      FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
      -- The base type of a domain can be another domain.
      CROSS JOIN LATERAL (
        WITH RECURSIVE base AS (
          SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod AS mod
          UNION ALL
          SELECT n.oid, n.typtype, n.typbasetype, n.typtypmod, d.typtypmod
          FROM base AS d JOIN pg_type AS n ON d.typtype = 'd' AND n.oid = d.typbasetype
        ) SELECT oid, mod FROM base WHERE typtype <> 'd'
      ) AS m
      JOIN pg_type AS b ON b.oid = m.oid
      WHERE a.attrelid = \(name)::regclass AND a.attnum > 0 AND NOT a.attisdropped
        AND (a.attname = \(guarding.id) OR a.attname = ANY (\(named.sorted())::text[])
             OR \(hasExpression) AND a.attgenerated = '' AND strpos(\(condition ?? ""),
               quote_ident(a.attname)) > 0)
      ORDER BY a.attnum
      """
    ).rows.map { row in
      try Column(
        name: row["attname"], type: row["type"], category: row["typcategory"],
        digits: row["digits"], isNumeric: row["is_numeric"], isIndexed: row["is_indexed"],
        isEnum: row["is_enum"], isID: row["is_id"], isKey: row["is_key"])
    }
  }

  /// The values that the partition bounds contain for a column.
  private func bounds(of column: String) -> [String] {
    keys.flatMap { key in
      let places = key.columns.indices.filter { key.columns[$0] == column }
      guard !places.isEmpty else { return [String]() }
      return PartitionBound.tuples(key.bound).flatMap { tuple in
        // With one key column, each value of a list is a value of that column.
        key.columns.count == 1
          ? tuple.compactMap(\.self) : places.compactMap { $0 < tuple.count ? tuple[$0] : nil }
      }
    }
  }
}
