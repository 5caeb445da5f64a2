public import Definitions
internal import Failures
import Foundation
public import PostgreSQL
import Vocabulary

/// Installs, removes and lists guards. Each guard is a trigger, so the list comes from PostgreSQL's catalog.
public struct IngestGuards: Sendable {
  let connection: Connection
  /// How long to wait for a table's lock. Other writers of the table wait meanwhile. If a guard is removed, or a former
  /// guard is restored, readers wait, too.
  private let lockTimeoutSeconds: Double

  public init(connection: Connection, lockTimeoutSeconds: Double) {
    self.connection = connection
    self.lockTimeoutSeconds = lockTimeoutSeconds
  }

  /// The column that a guard checks by default: the primary key, if it is one column.
  public func defaultID(of name: TableName) async throws -> String {
    let key = try await table(name).primaryKey
    guard key.count == 1 else {
      throw GuardError(
        "\(name) has \(key.isEmpty ? "no primary key" : "a primary key of several columns")",
        remedy: "name the column with the IDs: --id COLUMN")
    }
    return key[0]
  }

  /// Installs a guard on a table and all its partitions, and then tests it with rows. An existing guard is replaced in
  /// one transaction, so the table is never without a guard.
  ///
  /// - Parameters:
  ///   - acknowledging: names of other triggers that the operator acknowledges. Nil keeps the triggers that were
  ///     acknowledged for the existing guard and have not changed.
  ///   - tombstone: creates a temporary tombstone.
  /// - Returns: the result of the test. The guard stopped each row, but some methods might not have been tried.
  /// - Throws: `GuardError` if the guard cannot be installed, or if it did not stop a row. In the second case, the
  ///   former guard is restored if possible. `PostgreSQLError` if the server fails; the new guard may then stay.
  public func install(
    _ guarding: IngestGuard, acknowledging names: [String]? = nil,
    tombstone: @escaping ProbeTombstone
  ) async throws -> GuardProof {
    let (table, function) = try await guardable(guarding)
    let former = try await changing(table) { transaction in
      try await requireOwn(table, on: transaction)
      try await requireLocal(table, on: transaction)
      let former = try await self.former(of: table, on: transaction)
      try await transaction.runScript(function.create)
      try await lock(table, "SHARE ROW EXCLUSIVE", on: transaction)
      try await transaction.runScript(function.attach)
      try await describe(function, table, names, former, on: transaction)
      return former
    }
    let proof = try await prove(guarding, tombstone: tombstone)
    guard proof.leaks.isEmpty else {
      throw try await restoreFormerGuard(table, former, proof)
    }
    try await connection.withTransaction { try await dropUnusedFunctions(on: $0) }
    return proof
  }

  /// Checks the table and the column to guard.
  private func guardable(
    _ guarding: IngestGuard
  ) async throws -> (WarehouseTable, GuardFunction) {
    let table = try await table(guarding.table)
    guard let column = table.columns[guarding.id] else {
      throw GuardError(
        "\(table.name) has no column \(guarding.id)",
        remedy: "its columns: \(table.columns.keys.sorted().joined(separator: ", "))")
    }
    guard let kind = column.idKind else {
      throw GuardError(
        "\(table.name).\(column.name) is \(column.type), which cannot store IDs",
        remedy: "name a column of type bigint, integer, numeric, text or varchar")
    }
    guard !column.isGenerated else {
      throw GuardError(
        "\(table.name).\(column.name) is generated, so it is still empty when a guard's trigger reads a new row",
        remedy: "guard a column that is not generated")
    }
    guard !table.hasChildren else {
      throw GuardError(
        "other tables inherit from \(table.name), and rows that are inserted into them bypass its guard",
        remedy:
          "guard the inheriting tables one by one, or make them partitions"
      )
    }
    return (table, GuardFunction(guarding, column: column, kind: kind))
  }

  /// Refuses foreign tables, because this server's triggers do not fire for rows that are written on another server.
  private func requireLocal(_ table: WarehouseTable, on transaction: Transaction) async throws {
    let foreign = try await transaction.query(
      """
      SELECT min(n.nspname || '.' || c.relname) FROM pg_partition_tree(\(table.quoted)::regclass) AS t
      JOIN pg_class AS c ON c.oid = t.relid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind = 'f'
      """
    ).onlyRow(as: String?.self)
    guard let foreign else { return }
    throw GuardError(
      "\(foreign), a partition of \(table.name), is a foreign table: rows that are written on its own server bypass a guard",
      remedy:
        "guard each partition of this server separately, and the foreign table on its own server")
  }

  /// Removes the guard of a table.
  /// - Returns: false if the table has no guard.
  public func remove(from name: TableName) async throws -> Bool {
    let table = try await table(name)
    return try await changing(table) { transaction in
      guard try await requireOwn(table, on: transaction) else { return false }
      try await lock(table, "ACCESS EXCLUSIVE", on: transaction)
      try await transaction.runScript(
        "DROP TRIGGER \(identifier: GuardFunction.trigger) ON \(table.sql)")
      try await dropUnusedFunctions(on: transaction)
      return true
    }
  }

  /// The guards of the database in the order of their tables' names, with their faults. A trigger that a partition has
  /// from its partitioned table belongs to the guard of that table.
  public func all() async throws -> [InstalledGuard] {
    let rows = try await connection.query(
      """
      SELECT t.tgrelid::bigint, n.nspname, c.relname, coalesce(obj_description(p.oid, 'pg_proc'), '')
      FROM pg_trigger AS t
      JOIN pg_proc AS p ON p.oid = t.tgfoid AND p.proname ~ \(GuardFunction.namePattern)
      JOIN pg_namespace AS l ON l.oid = p.pronamespace AND l.nspname = 'lethe'
      JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE t.tgname = \(GuardFunction.trigger.name) AND t.tgparentid = 0
      ORDER BY 2, 3
      """
    ).rows(as: Int64.self, String.self, String.self, String.self)
    var guards: [InstalledGuard] = []
    for row in rows {
      let table = TableName(schema: row.1, name: row.2)
      let (description, guarding) = try Self.read(row.3, of: table)
      let inspection = GuardInspection(
        session: connection, guarding: guarding, description: description, tableOID: row.0)
      guards.append(InstalledGuard(guarding: guarding, faults: try await inspection.faults()))
    }
    return guards
  }

  /// The guard of a table; nil if none was installed on the table itself.
  public func guarding(_ name: TableName) async throws -> InstalledGuard? {
    let resolved = try await table(name).resolvedName
    return try await all().first { $0.guarding.table == resolved }
  }

  /// Reads the comment of a guard's function.
  static func read(
    _ comment: String, of table: TableName
  ) throws -> (GuardFunction.Description, IngestGuard) {
    guard
      let description = try? JSONDecoder().decode(
        GuardFunction.Description.self, from: Data(comment.utf8)),
      let type = JobType(rawValue: description.type),
      let onReturn = IngestGuard.OnReturn(rawValue: description.onReturn)
    else {
      throw GuardError(
        "the guard of \(table) cannot be read: the comment of its function was changed",
        remedy: "install the guard again")
    }
    return (
      description, IngestGuard(table: table, id: description.id, type: type, onReturn: onReturn)
    )
  }

  // MARK: The table

  func table(_ name: TableName) async throws -> WarehouseTable {
    guard let table = try await Catalog.lookUp(name, on: connection) else {
      throw GuardError(
        "there is no table \(name)",
        remedy: "correct its name (upper and lower case matter), and add its schema")
    }
    guard table.kind.hasChangeableRows else {
      throw GuardError(
        "\(name) is \(table.kind.reason)", remedy: "guard the table that holds the rows")
    }
    return table
  }

  /// Refuses triggers that cannot be changed on this table: a guard that a partition has from its partitioned table,
  /// and a trigger of the same name that is not a guard.
  /// - Returns: whether the table has a guard.
  @discardableResult
  private func requireOwn(_ table: WarehouseTable, on session: some Session) async throws -> Bool {
    let rows = try await session.query(
      """
      SELECT t.tgrelid = \(table.quoted)::regclass, t.tgrelid::regclass::text,
             l.nspname = 'lethe' AND p.proname ~ \(GuardFunction.namePattern),
             (SELECT a.relid::text FROM pg_partition_ancestors(t.tgrelid) AS a (relid)
              JOIN pg_trigger AS above ON above.tgrelid = a.relid
              WHERE t.tgparentid <> 0 AND above.tgname = \(GuardFunction.trigger.name)
                AND above.tgparentid = 0)
      FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
      JOIN pg_namespace AS l ON l.oid = p.pronamespace
      WHERE t.tgname = \(GuardFunction.trigger.name)
        AND (t.tgrelid = \(table.quoted)::regclass
             OR t.tgrelid IN (SELECT relid FROM pg_partition_tree(\(table.quoted)::regclass)))
      """
    ).rows(as: Bool.self, String.self, Bool.self, String?.self)
    if let other = rows.first(where: { !$0.2 }) {
      throw GuardError(
        "\(other.1) has a trigger \(GuardFunction.trigger.name) that is not Lethe's",
        remedy: "rename that trigger")
    }
    let own = rows.first(where: \.0)
    if let above = own?.3 {
      throw GuardError(
        "\(table.name) is a partition, and its guard belongs to \(above)",
        remedy: "name \(above) instead")
    }
    return own != nil
  }

  func lock(
    _ table: WarehouseTable, _ mode: SQL, on transaction: Transaction
  ) async throws {
    let milliseconds = Int(lockTimeoutSeconds * 1000)
    // lock_timeout applies to each partition separately. The statement timeout limits the time for all of them.
    try await transaction.runScript(
      """
      SET LOCAL lock_timeout = \(literal: milliseconds);
      SET LOCAL statement_timeout = \(literal: milliseconds)
      """)
    try await transaction.runScript("LOCK TABLE \(table.sql) IN \(mode) MODE")
    try await transaction.runScript("SET LOCAL statement_timeout = 0")
  }

  func changing<R: Sendable>(
    _ table: WarehouseTable, _ body: (Transaction) async throws -> R
  ) async throws -> R {
    do {
      return try await connection.withTransaction(body)
    } catch let error as PostgreSQLError
      where error.state == .lockNotAvailable || error.state == .queryCanceled
    {
      throw GuardError(
        """
        \(table.name) could not be locked within \(lockTimeoutSeconds.formatted()) s: another \
        transaction is using it
        """,
        remedy: """
          run again; if that does not help, end the longest transaction on the table (pg_stat_activity), or \
          let writers wait longer: --lock-timeout SECONDS
          """, disposition: .temporary)
    } catch let error as PostgreSQLError where error.state == .insufficientPrivilege {
      throw GuardError(
        error.message,
        remedy: """
          run the command as a user who owns \(table.name) and may create functions in the schema lethe and \
          read lethe.tombstone
          """)
    }
  }

  /// Drops the functions of guards that were replaced or removed, or whose table was dropped. Functions of owners whose
  /// privileges this role does not have are kept.
  func dropUnusedFunctions(on transaction: Transaction) async throws {
    let names = try await transaction.query(
      """
      SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS l ON l.oid = p.pronamespace
      WHERE l.nspname = 'lethe' AND p.proname ~ \(GuardFunction.namePattern)
        AND pg_has_role(p.proowner, 'USAGE')
        AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = p.oid)
      """
    ).rows(as: String.self)
    for name in names {
      try await transaction.runScript("DROP FUNCTION lethe.\(identifier: name)()")
    }
  }
}
