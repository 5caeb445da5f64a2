import ArgumentParser
import Migrations
import PostgreSQL
import SystemPackage

struct Migrate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The schemas that the service works on.",
    subcommands: [Up.self, Down.self, Status.self])

  struct Up: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Apply what is pending.")

    @OptionGroup var database: DatabaseOption
    @OptionGroup var migrations: MigrationsOption

    func run() async throws {
      try await withMigrator(database, migrations) { migrator in
        let applied = try await migrator.up()
        for migration in applied { print("applied \(migration.version)_\(migration.name)") }
        if applied.isEmpty { print("nothing is pending") }
      }
    }
  }

  struct Down: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Roll the newest applied migration back.")

    @OptionGroup var database: DatabaseOption
    @OptionGroup var migrations: MigrationsOption

    func run() async throws {
      try await withMigrator(database, migrations) { migrator in
        guard let migration = try await migrator.down() else { return print("nothing is applied") }
        print("rolled back \(migration.version)_\(migration.name)")
      }
    }
  }

  struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show what is applied.")

    @OptionGroup var database: DatabaseOption
    @OptionGroup var migrations: MigrationsOption

    func run() async throws {
      try await withMigrator(database, migrations) { migrator in
        for migration in try await migrator.status() {
          let state = migration.isApplied ? "applied" : "pending"
          print("\(state)  \(migration.version)_\(migration.name)")
        }
      }
    }
  }
}

private func withMigrator(
  _ database: DatabaseOption, _ migrations: MigrationsOption,
  _ body: (Migrator) async throws -> Void
) async throws {
  let set = try MigrationSet(directory: FilePath(migrations.directory))
  try await Connection.withConnection(
    database.connectionString, applicationName: "compliance-server migrate"
  ) { connection in
    try await body(Migrator(connection: connection, set: set))
  }
}
