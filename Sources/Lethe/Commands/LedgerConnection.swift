import Ledger
import PostgreSQL

/// Runs `body` with a connection to a database that has this program's ledger.
/// - Throws: `LedgerSchemaError` if the ledger is missing, older, newer or damaged.
func withLedger<R: Sendable>(
  _ connectionString: ConnectionString, _ body: (Connection) async throws -> R
) async throws -> R {
  try await Connection.withConnection(connectionString) { connection in
    try await LedgerSchema.require(on: connection)
    return try await body(connection)
  }
}
