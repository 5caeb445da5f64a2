import ArgumentParser
import EmbeddedMigrations
import Foundation
import Migrations
import PostgreSQL
import SystemPackage

/// Which database, the same for every command.
struct DatabaseOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The database, as a libpq connection string. (default: $DATABASE_URL)",
      discussion: """
        Without both, libpq's PG* variables say. A password is better kept in ~/.pgpass or \
        DATABASE_URL than in the process list.
        """,
      valueName: "url"))
  var database: String?

  var connectionString: ConnectionString {
    ConnectionString(database ?? ProcessInfo.processInfo.environment["DATABASE_URL"] ?? "")
  }
}

/// Which migrations of the platform.
struct MigrationsOption: ParsableArguments {
  @Option(
    name: .customLong("migrations-dir"),
    help: ArgumentHelp(
      "The directory of the platform's migrations. (default: those that the program brings)",
      valueName: "dir"), completion: .directory)
  var directory: String?

  /// - Throws: a `ValidationError` if they are not the service's.
  func set() throws -> MigrationSet {
    let set =
      if let directory {
        try MigrationSet(directory: FilePath(directory))
      } else {
        try MigrationSet("the program's migrations", files: PlatformMigrations.files)
      }
    do {
      try set.refuse(
        [
          .ledger: "lethe migrate up applies them, to the warehouse's database",
          .demo: "leave them out: the service has tables of its own, in migrations/platform",
        ], in: "compliance-server")
    } catch let error as ForeignMigrations {
      throw ValidationError("\(error)")
    }
    return set
  }
}
