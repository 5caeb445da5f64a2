import Definitions
import Foundation
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Restores the rows of holds that have no holder left, each to its own former values, and ends the holds.
///
/// The caller must have locked the holds and put them into `lethe_ending`. All later statements then see the
/// same holds and holders. A transaction that hides one of the rows has either committed before, or has to
/// wait.
struct HoldEnding {
  let transaction: Transaction
  let catalog: Catalog
  /// The type of the IDs that are released.
  let type: JobType
  /// Decides which rows another writer has changed. If it is nil, all rows are restored.
  let versions: RowVersions?
  /// The paths on which IDs protected without holds may hide a row.
  let protections: [ProtectionPath]
  /// The chunk that the errors name.
  let chunk: Chunk?

  private var ledger: HoldClosing { HoldClosing(transaction: transaction, type: type) }

  /// Decides which columns of each hold are restored: those that no other ID holds.
  func findRestorableColumns() async throws { try await ledger.findRestorableColumns() }

  /// Restores the rows of the holds in `lethe_due`.
  func open() async throws {
    for group in try await groups() { try await open(group) }
  }

  /// Holds with rows that one statement restores.
  private struct Group {
    let table: String
    let key: [String]
    let held: [String]
    let columns: [String]
  }

  private func groups() async throws -> [Group] {
    try await transaction.query(
      """
      SELECT table_name, array_to_json(key)::text, array_to_json(held)::text,
             array_to_json(columns)::text
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

  private func open(_ group: Group) async throws {
    guard let name = TableName(group.table),
      let table = try await catalog.table(resolved: name, on: transaction),
      (group.key + group.held).allSatisfy({ table.columns[$0] != nil }), !table.mayHideRows
    else {
      // It is unknown whether the row exists, or what happened to a column without a recorded number. The
      // table may have been renamed. `lethe check` counts such holds.
      return try await setOutcome("waits", of: group)
    }
    let (held, columns) = (group.held, group.columns)
    let isRow = Self.isRow(group, table)
    let isAsSet = held.map {
      """
      t.\(identifier: $0)::text IS NOT DISTINCT FROM h.set_to ->> \(literal: $0)
      """ as SQL
    }.joined(separator: " AND ")
    if !columns.isEmpty { try await restore(columns, of: group, table, isRow, isAsSet) }
    let rest = Self.isInGroup(group)
    // The other rows have a newer version, or have another holder, or are being written at this moment.
    try await run(
      """
      UPDATE lethe_due AS d
      SET outcome = CASE
          WHEN NOT EXISTS (SELECT FROM \(table.resolvedName.sql) AS t WHERE \(isRow)) THEN 'gone'
          WHEN NOT EXISTS (SELECT FROM \(table.resolvedName.sql) AS t WHERE \(isRow) AND \(isAsSet))
          THEN 'changed' ELSE \(literal: columns.isEmpty ? "held" : "waits") END
      FROM lethe.hold AS h
      WHERE \(rest) AND d.outcome IS NULL AND h.hold_id = d.hold_id
      """, table)
  }

  private func restore(
    _ columns: [String], of group: Group, _ table: WarehouseTable, _ isRow: SQL,
    _ isAsSet: SQL
  ) async throws {
    let isOld = versions.map { $0.isOlderThanExport("t", of: table) } ?? "true"
    let sets = columns.compactMap { name in
      table.columns[name].map {
        "\($0.sql) = (h.former ->> \(literal: name))::\($0.typeSQL)" as SQL
      }
    }
    let isExact = columns.map {
      "t.\(identifier: $0)::text IS NOT DISTINCT FROM h.former ->> \(literal: $0)" as SQL
    }.joined(separator: " AND ")
    let unguarded = try await unguarded(table.resolvedName)
    let isInGroup = Self.isInGroup(group)
    try await run(
      """
      WITH opened AS (
        UPDATE \(table.resolvedName.sql) AS t SET \(sets.joined(separator: ", "))
        FROM lethe_due AS d JOIN lethe.hold AS h USING (hold_id)
        WHERE \(isInGroup) AND d.outcome IS NULL AND \(isRow) AND \(isAsSet)
          AND (h.ignores_writers OR \(isOld))\(unguarded)
        RETURNING d.hold_id, \(isExact) AS is_exact
      )
      UPDATE lethe_due AS d SET outcome = CASE WHEN o.is_exact THEN 'opened' ELSE 'other' END
      FROM opened AS o WHERE d.hold_id = o.hold_id
      """, table)
    try await requireExact(group, table)
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
        look for a trigger of \(table.resolvedName) that changes \(group.columns.joined(separator: ", ")); \
        nothing of this batch was kept
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

  private static func isInGroup(_ group: Group) -> SQL {
    """
    d.table_name = \(group.table)::text \
    AND d.key = \(group.key)::text[] \
    AND d.held = \(group.held)::text[] \
    AND d.columns = \(group.columns)::text[]
    """
  }

  /// The condition that leaves out rows that an ID protected without holds still hides.
  private func unguarded(
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
  func end(jobID: Int64?) async throws { try await ledger.end(jobID: jobID) }
}
