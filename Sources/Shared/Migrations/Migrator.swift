public import PostgreSQL
internal import SystemPackage

/// Applies and rolls back the migrations of a set. It records them in dbmate's table, `public.schema_migrations`, so
/// that either program can continue the other's work. If that table belongs to another tool or cannot be created, it
/// uses `lethe_migrations.schema_migrations`, which dbmate can use with its option `--migrations-table`. It also uses
/// this second table if it exists and the first one has no versions of the set.
///
/// An advisory lock lets only one migrator work on a database at a time; others wait.
public struct Migrator: Sendable {
  public struct Status: Sendable, Equatable {
    public let version: String
    public let name: String
    public let isApplied: Bool
  }

  private let connection: Connection
  private let set: MigrationSet

  /// An arbitrary number; the same in all Lethe programs.
  private static let advisoryLock: Int64 = 0x6C65_7468_655F_6D69

  public init(connection: Connection, set: MigrationSet) {
    self.connection = connection
    self.set = set
  }

  /// Applies the pending migrations, oldest first, each in its own transaction unless it has `transaction:false`.
  /// - Returns: the applied migrations.
  /// - Throws: `MigrationError`, which names the file, and the line if it is known; `PostgreSQLError` if the error is
  ///   temporary, or if no migration caused it. Earlier migrations stay applied.
  @discardableResult
  public func up() async throws -> [Migration] {
    try await locked {
      let table = try await table()
      try await createIfMissing(table)
      let applied = try await versions(in: table)
      let pending = set.migrations.filter { !applied.contains($0.version) }
      for migration in pending {
        try await run(
          migration.up, of: migration,
          recording: "INSERT INTO \(table.sql) (version) VALUES (\(migration.version))")
      }
      return pending
    }
  }

  /// Rolls back the newest applied migration of this set.
  /// - Returns: the migration; nil if none is applied.
  @discardableResult
  public func down() async throws -> Migration? {
    switch try await down(destroying: true) {
    case .idle: nil
    case .rolledBack(let migration), .wouldDestroy(let migration, _): migration
    }
  }

  /// The outcome of a rollback.
  public enum Rollback: Sendable {
    /// No migration of this set is applied.
    case idle
    case rolledBack(Migration)
    /// Nothing was changed, because the rollback would destroy the rows and triggers in `MigrationLosses`, or because
    /// its losses are unknown.
    case wouldDestroy(Migration, MigrationLosses)
  }

  /// Rolls back the newest applied migration of this set.
  /// - Parameter destroying: whether the rollback may destroy rows and triggers.
  public func down(destroying: Bool) async throws -> Rollback {
    try await locked {
      let table = try await table()
      let applied = try await versions(in: table)
      guard let newest = set.migrations.last(where: { applied.contains($0.version) }) else {
        return .idle
      }
      if !destroying {
        let losses = try await losses(of: newest)
        guard losses.areNone else { return .wouldDestroy(newest, losses) }
      }
      try await run(
        newest.down, of: newest,
        recording: "DELETE FROM \(table.sql) WHERE version = \(newest.version)")
      return .rolledBack(newest)
    }
  }

  private func losses(of migration: Migration) async throws -> MigrationLosses {
    guard migration.down.inTransaction else { return .unknown }
    do {
      return try await LossDetector(connection: connection).losses(of: migration.down.sql)
    } catch let error as PostgreSQLError where !error.isTemporary {
      throw Self.failure(error, of: migration, in: migration.down)
    }
  }

  /// Every migration of the set, oldest first. Changes nothing.
  public func status() async throws -> [Status] {
    let applied = try await versions(in: table())
    return set.migrations.map {
      Status(version: $0.version, name: $0.name, isApplied: applied.contains($0.version))
    }
  }

  private func locked<R: Sendable>(_ body: () async throws -> R) async throws -> R {
    _ = try await connection.query("SELECT pg_advisory_lock(\(literal: Self.advisoryLock))")
    do {
      let value = try await body()
      try await connection.execute("SELECT pg_advisory_unlock(\(literal: Self.advisoryLock))")
      return value
    } catch {
      // The unlock runs in a new task, because a cancelled task could not run it, and the session would keep the lock.
      let connection = self.connection
      await Task {
        _ = try? await connection.execute(
          "SELECT pg_advisory_unlock(\(literal: Self.advisoryLock))")
      }.value
      throw error
    }
  }

  // MARK: The table

  /// The table that records the applied versions.
  private enum Table: String, CaseIterable {
    case shared = "public"
    case own = "lethe_migrations"

    var name: String { "\(rawValue).schema_migrations" }
    var sql: SQL { SQL(trusted: name) }
  }

  /// Chooses the table. A table with versions of this set is used again. A table that does not accept dbmate's rows
  /// belongs to another tool.
  private func table() async throws -> Table {
    for table in Table.allCases {
      let recorded = try await versions(in: table)
      if set.migrations.contains(where: { recorded.contains($0.version) }) { return table }
    }
    if try await exists(.own) { return .own }
    if try await exists(.shared) { return try await isDbmates(.shared) ? .shared : .own }
    let canCreate = try await connection.query(
      """
      SELECT coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace
                       WHERE nspname = 'public'), false)
      """
    ).onlyRow(as: Bool.self)
    return canCreate ? .shared : .own
  }

  private func exists(_ table: Table) async throws -> Bool {
    try await connection.query("SELECT to_regclass(\(table.name)) IS NOT NULL")
      .onlyRow(as: Bool.self)
  }

  /// Whether the table accepts dbmate's rows.
  private func isDbmates(_ table: Table) async throws -> Bool {
    try await connection.query(
      """
      SELECT coalesce(bool_or(attname = 'version' AND atttypid IN ('text'::regtype, 'varchar'::regtype))
                      AND NOT bool_or(attname <> 'version' AND attnotnull AND NOT atthasdef), false)
      FROM pg_attribute WHERE attrelid = to_regclass(\(table.name)) AND attnum > 0 AND NOT attisdropped
      """
    ).onlyRow(as: Bool.self)
  }

  private func createIfMissing(_ table: Table) async throws {
    guard try await !exists(table) else { return }
    do {
      if table == .own {
        try await connection.execute("CREATE SCHEMA IF NOT EXISTS \(identifier: table.rawValue)")
      }
      try await connection.execute(
        "CREATE TABLE IF NOT EXISTS \(table.sql) (version varchar NOT NULL PRIMARY KEY)")
    } catch let error as PostgreSQLError where error.state == .insufficientPrivilege {
      throw MigrationError(
        file: set.directory.string, line: nil,
        message: "the role may not create the table \(table.name): \(error.messageWithoutValues)",
        remedy: """
          GRANT CREATE ON DATABASE … to the role (the schema lethe needs it, too), or migrate as the \
          database's owner
          """)
    }
  }

  private func versions(in table: Table) async throws -> Set<String> {
    guard try await exists(table), try await isDbmates(table) else { return [] }
    return Set(
      try await connection.query("SELECT version FROM \(table.sql)").rows(as: String.self))
  }

  private func run(
    _ block: Migration.Block, of migration: Migration, recording: SQL
  ) async throws {
    do {
      if block.inTransaction {
        try await connection.withTransaction { transaction in
          try await transaction.runScript(SQL(trusted: block.sql))
          try await transaction.executeOne(recording)
        }
      } else {
        try await connection.runScript(SQL(trusted: block.sql))
        try await connection.executeOne(recording)
      }
    } catch let error as PostgreSQLError where !error.isTemporary {
      throw Self.failure(error, of: migration, in: block)
    }
  }

  private static func failure(
    _ error: PostgreSQLError, of migration: Migration, in block: Migration.Block
  ) -> MigrationError {
    MigrationError(
      file: migration.file.string, line: line(of: error, in: block),
      message: error.isRaisedByScript
        ? "\(error.message) (SQLSTATE \(error.state?.rawValue ?? ""))"
          + (error.isRaised ? "" : error.hint.map { "\n  hint: \($0)" } ?? "")
        : error.description,
      // A migration that raises an error gives its own remedy as the hint.
      remedy: error.isRaised && error.hint != nil
        ? error.hint ?? ""
        : block.inTransaction
          ? "fix the statement and run the command again: none of this file's changes were kept"
          : "this block runs without a transaction: undo its changes, fix it and run it again")
  }

  /// The line of the file with the error: from the server's position, or from the number of statements that succeeded.
  /// Nil if the recording of the version or the COMMIT failed.
  private static func line(of error: PostgreSQLError, in block: Migration.Block) -> Int? {
    guard error.statement == nil else { return nil }  // only a script's error has none
    if let position = error.position {
      // The server counts code points; a Character can have several.
      return block.firstLine + block.sql.unicodeScalars.prefix(position - 1).count { $0 == "\n" }
    }
    let lines = StatementLines(block.sql).lines
    guard error.statementsCompleted < lines.count else { return nil }
    return block.firstLine + lines[error.statementsCompleted]
  }
}
