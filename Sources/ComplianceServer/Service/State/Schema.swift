internal import Migrations
internal import PostgreSQL

/// Checks the database's schema before the service starts, and reads the signing key.
struct Schema {
  let session: Connection

  private static let tables = [
    "compliance.jobs", "compliance.signing_key", "compliance.spool", "compliance.upload_sessions",
    "platform.posts", "platform.accounts",
  ]
  private static let remedy = "run `compliance-server migrate up` on the same database"

  /// Checks that all tables exist and all given migrations are applied.
  /// - Throws: `StartError` if a table or a migration is missing.
  func requireMigrated(to migrations: MigrationSet?) async throws {
    let missing = try await session.query(
      """
      SELECT name FROM unnest(\(Self.tables)::text[]) AS needed (name) WHERE to_regclass(name) IS NULL
      """
    ).rows(as: String.self)
    guard missing.isEmpty else {
      throw StartError(
        message: "tables are missing in the database: \(missing.joined(separator: ", "))",
        remedy: Self.remedy)
    }
    guard let migrations else { return }
    let pending = try await Migrator(connection: session, set: migrations).status()
      .filter { !$0.isApplied }
    guard pending.isEmpty else {
      let names = pending.map { "\($0.version)_\($0.name)" }.joined(separator: ", ")
      throw StartError(message: "migrations are not applied: \(names)", remedy: Self.remedy)
    }
  }

  /// Returns the key that signs URLs. The key is generated once for each database, so URLs stay valid after a restart.
  func signingKey() async throws -> [UInt8] {
    var random = SystemRandomNumberGenerator()
    let candidate = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &random) }
    _ = try await session.execute(
      "INSERT INTO compliance.signing_key (key) VALUES (\(candidate)) ON CONFLICT DO NOTHING")
    return try await session.query("SELECT key FROM compliance.signing_key")
      .onlyRow(as: [UInt8].self)
  }
}
