public import Failures
public import PostgreSQL

/// The error that the ledger is missing or incomplete, or is older or newer than this program. Nothing was done.
public struct LedgerSchemaError: ExplainedError, Sendable, Equatable {
  public let message: String
  public let remedy: String
  public var disposition: Disposition { .usage }
}

extension LedgerSchema {
  /// - Throws: `LedgerSchemaError` if the ledger is missing or incomplete, or is older or newer than this program.
  public static func require(on session: some Session) async throws {
    if let fault = try await fault(on: session) { throw fault }
  }

  /// Reads the catalog, and `lethe.version` if the role may read it. Needs no privilege except to connect.
  /// - Returns: nil if the ledger is complete and of this program's version.
  public static func fault(on session: some Session) async throws -> LedgerSchemaError? {
    let found = Set(try await objects(on: session))
    guard !found.isEmpty else {
      return LedgerSchemaError(
        message: "the database has no ledger", remedy: "run lethe migrate up --database …")
    }
    let unknown = try await unknownVersions(on: session)
    guard unknown.isEmpty else {
      return LedgerSchemaError(
        message: """
          the ledger is newer than this program: it has the unknown migrations \
          \(unknown.joined(separator: ", "))
          """, remedy: "install the version of Lethe that migrated the ledger, or a newer one")
    }
    let missing = versions.map { version in
      (version, lacks: version.objects.filter { !found.contains($0) })
    }
    let parts = missing.filter { !$0.lacks.isEmpty && $0.lacks.count < $0.0.objects.count }
    guard parts.isEmpty else {
      return LedgerSchemaError(
        message: """
          the ledger is not complete: the schema lethe lacks \
          \(parts.flatMap(\.lacks).joined(separator: ", "))
          """,
        remedy: """
          restore the schema lethe from a backup; or, only if nothing in it is needed any more, run DROP SCHEMA \
          lethe CASCADE, delete the versions of its migrations from schema_migrations, and run lethe migrate up
          """)
    }
    let pending = missing.filter { !$0.lacks.isEmpty }.map(\.0.version)
    guard pending.isEmpty else {
      return LedgerSchemaError(
        message: """
          the ledger is older than this program: it lacks the migrations \
          \(pending.joined(separator: ", "))
          """,
        remedy: """
          run lethe migrate up --database …; if it finds no migration to apply, restore the schema lethe from a \
          backup: its tables were dropped by hand
          """)
    }
    return nil
  }

  /// Every table, view, column, function and enum type of the schema, and the constraint that was dropped, named as in
  /// `versions`.
  private static func objects(on session: some Session) async throws -> [String] {
    try await session.query(
      """
      SELECT c.relname::text FROM pg_catalog.pg_class AS c
      WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = \(schema))
        AND c.relkind IN ('r', 'p', 'v')
      UNION ALL
      SELECT c.relname || '.' || a.attname
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
      WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = \(schema))
        AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
      UNION ALL
      SELECT p.proname || '()' FROM pg_catalog.pg_proc AS p
      WHERE p.pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = \(schema))
      UNION ALL
      SELECT 'TYPE ' || t.typname FROM pg_catalog.pg_type AS t
      WHERE t.typnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = \(schema))
        AND t.typtype = 'e'
      UNION ALL
      SELECT 'without collected_chunk_id_fkey' FROM pg_catalog.pg_class AS c
      WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = \(schema))
        AND c.relname = 'collected'
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
                        WHERE k.conrelid = c.oid AND k.conname = 'collected_chunk_id_fkey')
      """
    ).rows(as: String.self)
  }

  private static func unknownVersions(on session: some Session) async throws -> [String] {
    // Without the privilege, the versions cannot be read. Another check reports the missing privilege.
    let mayRead = try await session.query(
      """
      SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = \(schema) AND c.relname = 'version'
          AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
          AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))
      """
    ).onlyRow(as: Bool.self)
    guard mayRead else { return [] }
    return try await session.query(
      """
      SELECT version FROM lethe.version WHERE version <> ALL (\(versions.map(\.version))::text[])
      ORDER BY version
      """
    ).rows(as: String.self)
  }

  /// The privileges that the role for runs needs on the ledger and on its database.
  public static func privileges(on session: some Session) async throws -> [Privilege] {
    let functions = try await session.query(
      """
      SELECT p.proname::text,
             -- Qualified names, because another role may have another search_path.
             (SELECT coalesce(pg_catalog.string_agg(pg_catalog.format('%I.%I', s.nspname, t.typname), ', ' ORDER BY a.place), '')
              FROM pg_catalog.unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (oid, place)
              JOIN pg_catalog.pg_type AS t ON t.oid = a.oid
              JOIN pg_catalog.pg_namespace AS s ON s.oid = t.typnamespace)
      FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = \(schema)
        AND p.proname = ANY (\(versions.flatMap(\.objects).filter { $0.hasSuffix("()") }.map { "\($0.dropLast(2))" })::text[]) AND p.prorettype <> 'trigger'::regtype
      ORDER BY 1, 2
      """
    ).rows(as: String.self, String.self)
    return [
      Privilege("CONNECT", on: .database), Privilege("TEMPORARY", on: .database),
      Privilege("USAGE", on: .schema(schema)),
    ]
      + tables.flatMap { table in
        table.privileges.map { Privilege($0, on: .table(schema: schema, name: table.name)) }
      }
      + functions.map {
        Privilege("EXECUTE", on: .function(schema: schema, name: $0.0, arguments: $0.1))
      }
      + versions.flatMap(\.objects).filter { $0.hasPrefix("TYPE ") }.map {
        Privilege("USAGE", on: .type(schema: schema, name: "\($0.dropFirst(5))"))
      }
  }
}
