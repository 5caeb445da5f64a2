import Definitions
import Foundation
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Restores the columns that no other ID holds, each row to its own former values. Ends a hold when no held column is
/// left, when its row is missing, or when another program has changed the row.
///
/// The caller must have locked the holds and inserted them into `lethe_ending`. All later statements then see the
/// same holds and holders. Another transaction that hides one of the rows has either committed before these
/// locks, or waits for them.
struct RowRestoration {
  let transaction: Transaction
  let catalog: Catalog
  /// The type of the IDs that are released.
  let type: JobType
  /// Decides which rows another writer has changed since the export. These rows are not restored, unless their hold
  /// ignores other writers. If it is nil, this is not checked.
  let versions: RowVersions?
  /// The paths from IDs that an earlier version protected without holds to the rows that they may hide.
  let protections: [ProtectionPath]
  /// The chunk that the errors name. Nil for an operator's release.
  let chunk: Chunk?

  private var ledger: HoldClosing { HoldClosing(transaction: transaction, type: type) }

  /// Decides which columns of each hold are restored: those that no other ID holds.
  func findRestorableColumns() async throws { try await ledger.findRestorableColumns() }

  /// Restores the rows of the holds in `lethe_due`.
  func restoreRows() async throws {
    for group in try await groups() { try await restoreRows(of: group) }
  }

  /// The holds whose rows one statement restores.
  struct Group: Hashable {
    let table: String
    let key: [String]
    let held: [String]
    let columns: [String]

    init(table: String, key: [String], held: [String], columns: [String]) {
      (self.table, self.key, self.held, self.columns) = (table, key, held, columns)
    }

    /// The name of the table with the rows. A hold of a row of a partition has the name of the partitioned table.
    fileprivate func rows(_ table: WarehouseTable) -> SQL {
      TableName(self.table)?.sql ?? table.resolvedName.sql
    }

    /// The holds that a change writes. Nil if it writes none.
    init?(_ change: Change) {
      guard change.keepsHolds, let key = change.holdKey, let hiding = change.kind.hiding else {
        return nil
      }
      let columns = hiding.set.map(\.column).sorted()
      self.init(table: key.table, key: key.names, held: columns, columns: columns)
    }
  }

  private func groups() async throws -> [Group] {
    try await transaction.query(
      """
      SELECT table_name, pg_catalog.array_to_json(key)::text, pg_catalog.array_to_json(held)::text,
             pg_catalog.array_to_json(columns)::text
      FROM (SELECT DISTINCT table_name, key, held, columns FROM lethe_due WHERE outcome IS NULL) AS g
      ORDER BY 1, 2, 3, 4
      """
    ).rows(as: String.self, String.self, String.self, String.self).map {
      Group(
        table: $0.0, key: try Self.names($0.1), held: try Self.names($0.2),
        columns: try Self.names($0.3))
    }
  }

  // MARK: Restoring

  private func restoreRows(of group: Group) async throws {
    guard let name = TableName(group.table),
      let table = try await catalog.table(resolved: name, on: transaction),
      (group.key + group.held).allSatisfy({ table.columns[$0] != nil }), !table.mayHideRows
    else {
      // It is unknown whether the row still exists. The table or a column might have been renamed, or row-level
      // security may hide rows. `lethe check` reports tables with such holds.
      return try await setOutcome("waits", of: group)
    }
    if !group.columns.isEmpty {
      let isFree = try await isFree(table.resolvedName)
      try await run(
        Self.restoration(of: group, in: table, versions, isFree: isFree), table)
      try await requireExact(group, table)
    }
    try await run(Self.outcome(of: group, in: table), table)
  }

  /// The statement that restores the rows of a group.
  /// - Parameter isFree: a further condition for the rows. It begins with AND, or is empty.
  static func restoration(
    of group: Group, in table: WarehouseTable, _ versions: RowVersions?, isFree: SQL
  ) -> SQL {
    let isOld = versions.map { $0.isOlderThanExport("t", of: table) } ?? "true"
    let sets = group.columns.compactMap { name in
      table.columns[name].map {
        "\($0.sql) = (h.former ->> \(literal: name))::\($0.typeSQL)" as SQL
      }
    }
    let isExact = group.columns.map {
      "t.\(identifier: $0)::text IS NOT DISTINCT FROM h.former ->> \(literal: $0)" as SQL
    }.joined(separator: " AND ")
    let (isInGroup, isRow, isAsSet) = (isInGroup(group), isRow(group, table), isAsSet(group))
    return """
      WITH restored AS (
        UPDATE \(group.rows(table)) AS t SET \(sets.joined(separator: ", "))
        FROM lethe_due AS d JOIN lethe.hold AS h USING (hold_id)
        WHERE \(isInGroup) AND d.outcome IS NULL AND \(isRow) AND \(isAsSet)
          AND (h.ignores_writers OR \(isOld))\(isFree)
        RETURNING d.hold_id, \(isExact) AS is_exact
      )
      UPDATE lethe_due AS d SET outcome = CASE WHEN r.is_exact THEN 'restored' ELSE 'other' END
      FROM restored AS r WHERE d.hold_id = r.hold_id
      """
  }

  /// The statement that records the outcome for the rows of a group that were not restored. They are gone, have
  /// another value, have another holder, are also hidden by a protection without a hold, or have a version that is not
  /// known to be older than the export.
  static func outcome(of group: Group, in table: WarehouseTable) -> SQL {
    let (isInGroup, isRow, isAsSet) = (isInGroup(group), isRow(group, table), isAsSet(group))
    return """
      UPDATE lethe_due AS d
      SET outcome = CASE
          WHEN NOT EXISTS (SELECT FROM \(group.rows(table)) AS t WHERE \(isRow)) THEN 'gone'
          WHEN NOT EXISTS (SELECT FROM \(group.rows(table)) AS t WHERE \(isRow) AND \(isAsSet))
          THEN 'changed' ELSE \(literal: group.columns.isEmpty ? "held" : "waits") END
      FROM lethe.hold AS h
      WHERE \(isInGroup) AND d.outcome IS NULL AND h.hold_id = d.hold_id
      """
  }

  /// Throws an error if a trigger has changed the restored values. Then the row does not have its former
  /// values.
  private func requireExact(_ group: Group, _ table: WarehouseTable) async throws {
    let id = try await transaction.query(
      "SELECT id FROM lethe_due WHERE outcome = 'other' LIMIT 1"
    ).firstRow(as: Int64.self)
    guard let id else { return }
    throw ApplyError(
      chunk,
      message: """
        restore \(table.resolvedName): a row that ID \(id) holds did not get its former values
        """,
      remedy: """
        look for a trigger of \(table.resolvedName) that changes \
        \(group.columns.joined(separator: ", "))\(ApplyError.rolledBackNote)
        """)
  }

  private func run(
    _ sql: SQL, _ table: WarehouseTable
  ) async throws {
    do {
      _ = try await transaction.run(sql)
    } catch let error as PostgreSQLError where !error.isTemporary {
      throw ApplyError(error, chunk, "restore \(table.resolvedName): ")
    }
  }

  /// The condition that a row `t` is the row of the hold `h`, written so that the index of the table's key is
  /// used.
  private static func isRow(_ group: Group, _ table: WarehouseTable) -> SQL {
    group.key.compactMap { name in
      table.columns[name].map {
        "t.\($0.sql) = (h.row_key ->> \(literal: name))::\($0.typeSQL)" as SQL
      }
    }.joined(separator: " AND ")
  }

  /// The condition that a row `t` still has the values that the hold `h` has set.
  private static func isAsSet(_ group: Group) -> SQL {
    group.held.map {
      "t.\(identifier: $0)::text IS NOT DISTINCT FROM h.set_to ->> \(literal: $0)" as SQL
    }.joined(separator: " AND ")
  }

  private static func isInGroup(_ group: Group) -> SQL {
    """
    d.table_name = \(group.table)::text \
    AND d.key = \(group.key)::text[] \
    AND d.held = \(group.held)::text[] \
    AND d.columns = \(group.columns)::text[]
    """
  }

  /// The condition that the row is not hidden by an ID that was protected without a hold. It begins with AND, or is
  /// empty.
  private func isFree(
    _ table: TableName
  ) async throws -> SQL {
    let hasAny = try await transaction.query("SELECT EXISTS (SELECT FROM lethe.protection)")
      .onlyRow(as: Bool.self)
    guard hasAny else { return "" }
    return protections.filter { $0.resolvedTable == table }
      .map { "\n    AND \($0.isFree("t"))" as SQL }.joined()
  }

  private func setOutcome(_ outcome: String, of group: Group) async throws {
    let isInGroup = Self.isInGroup(group)
    _ = try await transaction.run(
      "UPDATE lethe_due AS d SET outcome = \(literal: outcome) WHERE \(isInGroup)")
  }

  private static func names(_ json: String) throws -> [String] {
    try JSONDecoder().decode([String].self, from: Data(json.utf8))
  }

  /// Ends the holds after their rows are restored.
  func endHolds(jobID: Int64?) async throws { try await ledger.end(jobID: jobID) }
}
