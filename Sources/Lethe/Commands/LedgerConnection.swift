import Ledger
import PostgreSQL

/// Connects for the length of `body` to a database that has this program's ledger.
/// - Throws: `LedgerSchemaError` where it has none, or an older, a newer or a broken one.
func withLedger<R: Sendable>(
  _ connectionString: ConnectionString, _ body: (Connection) async throws -> R
) async throws -> R {
  try await Connection.withConnection(connectionString) { connection in
    try await LedgerSchema.require(on: connection)
    return try await body(connection)
  }
}
