import PostgreSQL

/// What the rollback of a migration would destroy.
public struct MigrationLosses: Sendable, Equatable {
  public struct Table: Sendable, Equatable {
    /// The name with its schema.
    public let name: String
    /// The columns that would be dropped. Empty if the whole table would be dropped, or rows would be deleted from it.
    public let columns: [String]
    /// The number of rows that would be lost, or that have a value in these columns.
    public let rows: Int
  }

  public struct Trigger: Sendable, Equatable {
    public let table: String
    public let name: String
  }

  /// The tables that would lose rows or values, in the order of their names.
  public let tables: [Table]
  /// Triggers that would be dropped from tables that stay. Their function is in another schema than the table, so they
  /// were added later. An ingest guard is such a trigger.
  public let triggers: [Trigger]
  /// Whether the losses are unknown, because the block runs without a transaction.
  public let areUnknown: Bool

  public var areNone: Bool { tables.isEmpty && triggers.isEmpty && !areUnknown }

  /// The losses for messages, one in each line.
  public var lines: [String] {
    let tables = tables.map { table in
      let columns = table.columns.isEmpty ? "" : ", in \(table.columns.joined(separator: ", "))"
      return "\(table.name): \(table.rows) rows\(columns)"
    }
    let triggers = triggers.map { "\($0.table): trigger \($0.name)" }
    return tables + triggers
      + (areUnknown ? ["the losses are unknown: the block runs without a transaction"] : [])
  }

  static let none = MigrationLosses(tables: [], triggers: [], areUnknown: false)
  static let unknown = MigrationLosses(tables: [], triggers: [], areUnknown: true)
}

/// Finds out what a script destroys. Runs the script in a transaction, compares the database before and after, and
/// rolls the transaction back.
struct LossDetector {
  let connection: Connection

  /// The tables, columns and triggers of a database, by OID.
  private struct Snapshot {
    /// Tables; partitions belong to their parent table.
    var tables: [UInt32: String] = [:]
    /// Columns, by table.
    var columns: [UInt32: Set<String>] = [:]
    var triggers: [UInt32: (table: UInt32, name: String)] = [:]
    /// The session's count of deleted rows, by table. It may include rows that were deleted before the transaction.
    var deletions: [UInt32: Int] = [:]
  }

  private struct RolledBack: Error {
    let before: Snapshot
    let after: Snapshot
  }

  /// - Throws: the script's errors.
  func losses(of script: String) async throws -> MigrationLosses {
    do {
      return try await connection.withTransaction { transaction in
        let before = try await Self.snapshot(transaction)
        try await transaction.runScript(SQL(trusted: script))
        throw RolledBack(before: before, after: try await Self.snapshot(transaction))
      }
    } catch let rollback as RolledBack {
      return try await losses(rollback.before, rollback.after)
    }
  }

  private func losses(_ before: Snapshot, _ after: Snapshot) async throws -> MigrationLosses {
    let tables = try await lostTables(before, after) + lostColumns(before, after)
    return MigrationLosses(
      tables: (tables + Self.deletions(before, after)).sorted {
        ($0.name, $0.rows) < ($1.name, $1.rows)
      },
      triggers: before.triggers.values.compactMap { trigger in
        guard after.tables[trigger.table] != nil, let table = before.tables[trigger.table],
          !after.triggers.values.contains(where: { $0 == trigger })
        else { return nil }
        return .init(table: table, name: trigger.name)
      }.sorted { ($0.table, $0.name) < ($1.table, $1.name) }, areUnknown: false)
  }

  /// Conditions for tables into which a migration inserts rows. A row that meets the condition does not come from the
  /// migration. A table that has only the migration's rows is not a loss.
  private static let rowsOfUsers: [String: SQL] = ["lethe.seal": "kind <> 'begin'"]

  /// Tables with rows that are not a loss. Migrations manage `lethe.version`. `compliance.spool` contains only the path
  /// of a server's spool.
  private static let ignoredTables: Set<String> = ["lethe.version", "compliance.spool"]

  private func lostTables(
    _ before: Snapshot, _ after: Snapshot
  ) async throws -> [MigrationLosses.Table] {
    var lost: [MigrationLosses.Table] = []
    for (id, name) in before.tables
    where after.tables[id] == nil && !Self.ignoredTables.contains(name) {
      let table = SQL(trusted: name)
      let isLoss: SQL =
        Self.rowsOfUsers[name].map { "EXISTS (SELECT FROM \(table) WHERE \($0))" } ?? "true"
      let rows = try await connection.query(
        "SELECT CASE WHEN \(isLoss) THEN count(*) ELSE 0 END FROM \(table)"
      ).onlyRow(as: Int.self)
      if rows > 0 { lost.append(.init(name: name, columns: [], rows: rows)) }
    }
    return lost
  }

  private func lostColumns(
    _ before: Snapshot, _ after: Snapshot
  ) async throws -> [MigrationLosses.Table] {
    var lost: [MigrationLosses.Table] = []
    for (id, columns) in before.columns {
      guard let name = before.tables[id], after.tables[id] != nil else { continue }
      let dropped = columns.subtracting(after.columns[id] ?? []).sorted()
      guard !dropped.isEmpty else { continue }
      let values = dropped.map { "\(identifier: $0)" as SQL }.joined(separator: ", ")
      let rows = try await connection.query(
        "SELECT count(*) FROM \(trusted: name) WHERE pg_catalog.num_nonnulls(\(values)) > 0"
      ).onlyRow(as: Int.self)
      if rows > 0 { lost.append(.init(name: name, columns: dropped, rows: rows)) }
    }
    return lost
  }

  private static func deletions(_ before: Snapshot, _ after: Snapshot) -> [MigrationLosses.Table] {
    after.deletions.compactMap { id, count in
      let rows = count - (before.deletions[id] ?? 0)
      guard rows > 0, let name = after.tables[id], !ignoredTables.contains(name) else { return nil }
      return .init(name: name, columns: [], rows: rows)
    }
  }

  private static func snapshot(_ session: some Session) async throws -> Snapshot {
    var snapshot = Snapshot()
    let tables = try await session.query(
      """
      SELECT c.oid::bigint, pg_catalog.format('%I.%I', n.nspname, c.relname),
             coalesce((SELECT pg_catalog.string_agg(a.attname, chr(1)) FROM pg_attribute AS a
                       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), ''),
             coalesce((SELECT sum(pg_stat_get_xact_tuples_deleted(t.relid))::bigint
                       FROM pg_partition_tree(c.oid) AS t), pg_stat_get_xact_tuples_deleted(c.oid))
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
      """
    ).rows(as: Int.self, String.self, String.self, Int.self)
    for (id, name, columns, deleted) in tables {
      let id = UInt32(id)
      snapshot.tables[id] = name
      snapshot.columns[id] = Set(columns.split(separator: "\u{1}").map(String.init))
      if deleted > 0 { snapshot.deletions[id] = deleted }
    }
    let triggers = try await session.query(
      """
      SELECT t.oid::bigint, t.tgrelid::bigint, t.tgname::text
      FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
      JOIN pg_proc AS p ON p.oid = t.tgfoid
      WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND p.pronamespace <> c.relnamespace
      """
    ).rows(as: Int.self, Int.self, String.self)
    for (id, table, name) in triggers { snapshot.triggers[UInt32(id)] = (UInt32(table), name) }
    return snapshot
  }
}
