import ArgumentParser
import Foundation
import Migrations
import PostgreSQL
import SystemPackage

/// `lethe migrate up|down|status`: the ledger's schema, or any other set in dbmate's format.
struct MigrateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "migrate",
    abstract: "Apply, roll back or list migrations (dbmate's format and table).",
    subcommands: [Up.self, Down.self, Status.self])

  struct Options: ParsableArguments {
    @OptionGroup var database: DatabaseOption

    @Option(
      help: ArgumentHelp(
        "The folder of the migrations.",
        discussion: """
          Default: $LETHE_MIGRATIONS_DIR, or migrations in the current folder, or \
          share/lethe/migrations beside the program's bin folder.
          """, valueName: "dir"))
    var migrationsDir: String?

    func set() throws -> MigrationSet {
      let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
      let shared = program.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("share/lethe/migrations").path
      let chosen = migrationsDir ?? ProcessInfo.processInfo.environment["LETHE_MIGRATIONS_DIR"]
      let found = ["migrations", shared].first { FileManager.default.fileExists(atPath: $0) }
      return try MigrationSet(directory: FilePath(chosen ?? found ?? "migrations"))
    }

    func withMigrator<R: Sendable>(
      _ body: @escaping @Sendable (Migrator) async throws -> R
    ) async throws -> R {
      let set = try set()
      return try await Connection.withConnection(database.connectionString) {
        try await body(Migrator(connection: $0, set: set))
      }
    }
  }

  struct Up: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(abstract: "Apply what is pending.")
    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    mutating func run() async throws {
      let (options, output) = (options, output)
      try await untilSignalled {
        let applied = try await options.withMigrator { try await $0.up() }
        try output.write(["applied": applied.map(\.version)]) {
          applied.isEmpty
            ? "nothing is pending"
            : applied.map { "applied \($0.version) \($0.name)" }.joined(separator: "\n")
        }
      }
    }
  }

  struct Down: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "Roll the newest applied migration back.")
    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    mutating func run() async throws {
      let (options, output) = (options, output)
      try await untilSignalled {
        let undone = try await options.withMigrator { try await $0.down() }
        try output.write(["rolled_back": undone.map { [$0.version] } ?? []]) {
          undone.map { "rolled back \($0.version) \($0.name)" } ?? "nothing is applied"
        }
      }
    }
  }

  struct Status: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(abstract: "List what is applied and pending.")
    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    mutating func run() async throws {
      let (options, output) = (options, output)
      try await untilSignalled {
        let all = try await options.withMigrator { try await $0.status() }
        let grouped = Dictionary(grouping: all) { $0.isApplied ? "applied" : "pending" }
        try output.write(grouped.mapValues { $0.map(\.version) }) {
          var table = Table("version", "name", "state")
          for migration in all {
            table.add(
              migration.version, migration.name, migration.isApplied ? "applied" : "pending")
          }
          return table.text
        }
      }
    }
  }
}
