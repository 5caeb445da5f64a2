import Ledger
import PostgreSQL

/// Connects for the length of `body` to a database that has this program's ledger.
/// - Throws: `LedgerSchemaError` if the ledger is missing, older, newer or damaged.
func withLedger<R: Sendable>(
  _ connectionString: ConnectionString, _ body: (Connection) async throws -> R
) async throws -> R {
  try await Connection.withConnection(connectionString) { connection in
    try await LedgerSchema.require(on: connection)
    return try await body(connection)
  }
}
