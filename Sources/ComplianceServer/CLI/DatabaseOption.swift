import ArgumentParser
import EmbeddedMigrations
import Foundation
import Migrations
import PostgreSQL
import SystemPackage

/// The option that names the database. Every command that uses a database has it.
struct DatabaseOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The database, as a libpq connection string. (default: $DATABASE_URL)",
      discussion: """
        Without this option and DATABASE_URL, libpq uses its PG* variables. Keep a password in ~/.pgpass or \
        DATABASE_URL, because the process list shows arguments.
        """,
      valueName: "url"))
  var database: String?

  var connectionString: ConnectionString {
    ConnectionString(database ?? ProcessInfo.processInfo.environment["DATABASE_URL"] ?? "")
  }
}

/// The option for the platform's migrations.
struct MigrationsOption: ParsableArguments {
  @Option(
    name: .customLong("migrations-dir"),
    help: ArgumentHelp(
      "The directory of the platform's migrations. (default: those in the program)",
      valueName: "dir"), completion: .directory)
  var directory: String?

  /// Reads the service's migrations.
  /// - Throws: a `ValidationError` if the directory has migrations for another program; `MigrationError` if the
  ///   migrations cannot be read or are malformed.
  func migrationSet() throws -> MigrationSet {
    let set =
      if let directory {
        try MigrationSet(directory: FilePath(directory))
      } else {
        try MigrationSet("the program's migrations", files: PlatformMigrations.files)
      }
    do {
      try set.refuse(
        [
          .ledger: "apply them with lethe migrate up, to the warehouse's database",
          .demo: "leave them out: the service uses the tables of migrations/platform",
        ], in: "compliance-server")
    } catch let error as ForeignMigrations {
      throw ValidationError("\(error)")
    }
    return set
  }
}
