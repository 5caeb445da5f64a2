import Foundation
import Migrations
import PostgreSQL
import SystemPackage
import TestSupport

/// Writes files into a new directory and reads them as a set. A file's name begins with the version.
func withMigrationSet<R: Sendable>(
  _ files: [String: String], isolation: isolated (any Actor)? = #isolation,
  _ body: (MigrationSet) async throws -> R
) async throws -> R {
  try await withTemporaryDirectory { directory in
    for (name, text) in files {
      try Data(text.utf8).write(to: URL(fileURLWithPath: directory.appending(name).string))
    }
    return try await body(MigrationSet(directory: directory))
  }
}

extension Connection {
  func recordedVersions() async throws -> [String] {
    try await query("SELECT version FROM public.schema_migrations ORDER BY version COLLATE \"C\"")
      .rows(as: String.self)
  }

  /// Whether a relation exists.
  func hasRelation(_ name: String) async throws -> Bool {
    try await query("SELECT to_regclass(\(name)) IS NOT NULL").onlyRow(as: Bool.self)
  }

  /// The number of advisory locks in this database, both granted and waiting.
  func advisoryLocks() async throws -> Int {
    try await query(
      """
      SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      """
    ).onlyRow(as: Int.self)
  }

  /// All objects in this database except the system's, as text.
  func objects() async throws -> [String] {
    try await query(
      """
      SELECT pg_describe_object(classid, objid, objsubid)
      FROM (SELECT 'pg_class'::regclass, oid, 0, relnamespace FROM pg_class
            UNION ALL SELECT 'pg_proc'::regclass, oid, 0, pronamespace FROM pg_proc
            UNION ALL SELECT 'pg_type'::regclass, oid, 0, typnamespace FROM pg_type
            UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, oid FROM pg_namespace
           ) AS all_objects (classid, objid, objsubid, namespace)
      JOIN pg_namespace AS n ON n.oid = namespace
      WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
      ORDER BY pg_describe_object(classid, objid, objsubid) COLLATE "C"
      """
    ).rows(as: String.self)
  }
}
