import PostgreSQL
import TestSupport

/// A copy of the rows of `warehouse.posts` and of the ledger's tables except `worker` and `lease`. A test compares two
/// such copies.
struct LedgerImage: Sendable {
  private let rows: [String: [String]]

  init(_ fixture: PipelineFixture) async throws {
    rows = try await fixture.database.withConnection { connection in
      let tables = try await connection.query(
        """
        SELECT n.nspname || '.' || quote_ident(c.relname)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        -- `worker` and `lease` change with each command.
        WHERE n.nspname = 'lethe' AND c.relkind = 'r'
              AND c.relname NOT IN ('worker', 'lease') OR c.oid = 'warehouse.posts'::regclass
        """
      ).rows(as: String.self)
      var rows: [String: [String]] = [:]
      for table in tables {
        rows[table] = try await connection.query(
          "SELECT t::text FROM \(trusted: table) AS t ORDER BY 1"
        ).rows(as: String.self)
      }
      return rows
    }
  }

  /// Returns the tables that changed, with their rows before and after the change.
  func differences(from earlier: LedgerImage) -> [String] {
    Set(rows.keys).union(earlier.rows.keys).sorted().compactMap { table in
      let (now, then) = (rows[table] ?? [], earlier.rows[table] ?? [])
      return now == then ? nil : "\(table): \(then) -> \(now)"
    }
  }
}
