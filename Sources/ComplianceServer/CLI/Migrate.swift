import ArgumentParser
import Migrations
import PostgreSQL

struct Migrate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Manage the service's database schema.",
    subcommands: [Up.self, Down.self, Status.self])

  struct Up: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Apply the pending migrations.")

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
      abstract: "Roll back the newest applied migration; destroy rows only with --yes.")

    @OptionGroup var database: DatabaseOption
    @OptionGroup var migrations: MigrationsOption

    @Flag(help: "Destroy rows, if necessary. Without --yes, the command only lists them.")
    var yes = false

    func run() async throws {
      try await withMigrator(database, migrations) { migrator in
        switch try await migrator.down(destroying: yes) {
        case .idle: print("nothing is applied")
        case .rolledBack(let migration):
          print("rolled back \(migration.version)_\(migration.name)")
        case .wouldDestroy(let migration, let losses):
          throw ValidationError(
            """
            rolling back \(migration.version)_\(migration.name) would destroy:
            \(losses.lines.map { "  \($0)" }.joined(separator: "\n"))
              remedy: add --yes to destroy them
            """)
        }
      }
    }
  }

  struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show which migrations are applied.")

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
  let set = try migrations.migrationSet()
  try await Connection.withConnection(
    database.connectionString, applicationName: "compliance-server migrate", refusingPoolers: true
  ) { connection in
    try await body(Migrator(connection: connection, set: set))
  }
}
