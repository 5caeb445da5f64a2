public import PostgreSQL
internal import SystemPackage

/// Applies and rolls back the migrations of a set, with dbmate's table, so that either program can
/// go on where the other stopped.
///
/// One migrator at a time works on a database: the others wait on an advisory lock.
public struct Migrator: Sendable {
  public struct Status: Sendable, Equatable {
    public let version: String
    public let name: String
    public let isApplied: Bool
  }

  private let connection: Connection
  private let set: MigrationSet

  /// Any number that all Lethe programs agree on.
  private static let advisoryLock: Int64 = 0x6C65_7468_655F_6D69

  public init(connection: Connection, set: MigrationSet) {
    self.connection = connection
    self.set = set
  }

  /// Applies what is pending, oldest first, each in its own transaction.
  /// - Returns: what was applied.
  /// - Throws: `MigrationError` naming file and line; what came before it stays applied.
  @discardableResult
  public func up() async throws -> [Migration] {
    try await locked {
      let applied = try await appliedVersions()
      let pending = set.migrations.filter { !applied.contains($0.version) }
      for migration in pending {
        try await run(
          migration.up, of: migration,
          recording: "INSERT INTO public.schema_migrations (version) VALUES ($1)")
      }
      return pending
    }
  }

  /// Rolls the newest applied migration of this set back.
  /// - Returns: it, or nil if none is applied.
  @discardableResult
  public func down() async throws -> Migration? {
    try await locked {
      let applied = try await appliedVersions()
      guard let newest = set.migrations.last(where: { applied.contains($0.version) }) else {
        return nil
      }
      try await run(
        newest.down, of: newest,
        recording: "DELETE FROM public.schema_migrations WHERE version = $1")
      return newest
    }
  }

  /// Every migration of the set, oldest first. Changes nothing.
  public func status() async throws -> [Status] {
    let hasTable = try await connection.query(
      "SELECT to_regclass('public.schema_migrations') IS NOT NULL"
    ).onlyRow(as: Bool.self)
    let applied = hasTable ? try await recordedVersions() : []
    return set.migrations.map {
      Status(version: $0.version, name: $0.name, isApplied: applied.contains($0.version))
    }
  }

  private func locked<R: Sendable>(_ body: () async throws -> R) async throws -> R {
    _ = try await connection.query("SELECT pg_advisory_lock($1)", .integer(Self.advisoryLock))
    do {
      let value = try await body()
      try await connection.execute("SELECT pg_advisory_unlock($1)", .integer(Self.advisoryLock))
      return value
    } catch {
      // In a task of its own: in one that was cancelled the lock would stay with the connection.
      let connection = self.connection
      await Task {
        _ = try? await connection.execute(
          "SELECT pg_advisory_unlock($1)", .integer(Self.advisoryLock))
      }.value
      throw error
    }
  }

  private func appliedVersions() async throws -> Set<String> {
    try await connection.execute(
      """
      CREATE TABLE IF NOT EXISTS public.schema_migrations (version varchar NOT NULL PRIMARY KEY)
      """)
    return try await recordedVersions()
  }

  private func recordedVersions() async throws -> Set<String> {
    Set(
      try await connection.query("SELECT version FROM public.schema_migrations")
        .rows(as: String.self))
  }

  private func run(
    _ block: Migration.Block, of migration: Migration, recording: String
  ) async throws {
    do {
      if block.inTransaction {
        try await connection.withTransaction { transaction in
          try await transaction.runScript(block.sql)
          try await transaction.executeOne(recording, .text(migration.version))
        }
      } else {
        try await connection.runScript(block.sql)
        try await connection.executeOne(recording, .text(migration.version))
      }
    } catch let error as PostgreSQLError where !error.isTemporary {
      throw MigrationError(
        file: migration.file.string, line: Self.line(of: error, in: block),
        message: error.isOfScript
          ? "\(error.message) (SQLSTATE \(error.state?.rawValue ?? ""))"
            + (error.hint.map { "\n  hint: \($0)" } ?? "")
          : error.description,
        remedy: block.inTransaction
          ? "mend the statement and run the command again: nothing of this file was kept"
          : "this block runs without a transaction: undo what it had done, mend it, run it again")
    }
  }

  /// The line of the file that the error is about: by the server's position, else by the number of
  /// statements that had succeeded. Nil where it is about the recording or the COMMIT.
  private static func line(of error: PostgreSQLError, in block: Migration.Block) -> Int? {
    guard error.statement == nil else { return nil }  // only a script's error has none
    if let position = error.position {
      // The server counts code points, which a Character may be several of.
      return block.firstLine + block.sql.unicodeScalars.prefix(position - 1).count { $0 == "\n" }
    }
    let lines = StatementLines(block.sql).lines
    guard error.statementsCompleted < lines.count else { return nil }
    return block.firstLine + lines[error.statementsCompleted]
  }
}
