import Ledger
import PostgreSQL

/// Runs `body` with a connection to a database that has this program's ledger.
/// - Throws: `PostgreSQLError` `.unusableSession` if a pooler does not keep the session, or if a required setting
///   cannot be changed; `LedgerSchemaError` if the ledger is missing or incomplete, or is older or newer than this
///   program.
func withLedger<R: Sendable>(
  _ connectionString: ConnectionString, _ body: (Connection) async throws -> R
) async throws -> R {
  try await Connection.withConnection(connectionString, refusingPoolers: true) { connection in
    try await LedgerSchema.require(on: connection)
    return try await body(connection)
  }
}
