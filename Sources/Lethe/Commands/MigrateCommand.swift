import ArgumentParser
import EmbeddedMigrations
import Foundation
import Logging
import Migrations
import PostgreSQL
import SystemPackage

/// `lethe migrate up|down|status`: the ledger's schema, or another set of migrations in dbmate's format.
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
          Default: $LETHE_MIGRATIONS_DIR, or the ledger's migrations, which the program contains.
          """, valueName: "dir"), completion: .directory)
    var migrationsDir: String?

    @Flag(help: "Use the migrations of the demo's warehouse. Your own databases do not need them.")
    var demo = false

    func set() throws -> MigrationSet {
      let set = try anySet()
      let service = "run compliance-server migrate up, on a separate database"
      let warehouse = """
        do not apply these migrations: your warehouse has its own tables, and the ledger's migrations are \
        migrations/*.sql; --demo is only for the demo's database
        """
      try set.refuse(
        demo ? [.service: service] : [.service: service, .demo: warehouse], in: "lethe")
      return set
    }

    private func anySet() throws -> MigrationSet {
      let variable = ProcessInfo.processInfo.environment["LETHE_MIGRATIONS_DIR"]
      if let chosen = migrationsDir ?? (variable == "" ? nil : variable) {
        return try MigrationSet(directory: FilePath(chosen))
      }
      guard !demo else {
        throw ValidationError(
          "the program does not contain the demo's migrations: add --migrations-dir migrations/warehouse"
        )
      }
      return try MigrationSet("the program's migrations", files: LedgerMigrations.files)
    }

    func withMigrator<R: Sendable>(
      _ body: @escaping @Sendable (Migrator) async throws -> R
    ) async throws -> R {
      let set = try set()
      return try await Connection.withConnection(database.connectionString, refusingPoolers: true) {
        try await body(Migrator(connection: $0, set: set))
      }
    }
  }

  struct Up: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(abstract: "Apply the pending migrations.")
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
      abstract: "Roll back the newest applied migration.",
      discussion:
        "If data would be lost, it is listed by table, and the command continues only with --yes."
    )
    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    @Flag(help: "Roll back even if rows or guards of the ledger are lost.")
    var yes = false

    mutating func run() async throws {
      let (options, output, yes) = (options, output, yes)
      try await untilSignalled {
        switch try await options.withMigrator({ try await $0.down(destroying: yes) }) {
        case .idle:
          try output.write(["rolled_back": [String]()]) { "nothing is applied" }
        case .rolledBack(let migration):
          try output.write(["rolled_back": [migration.version]]) {
            "rolled back \(migration.version) \(migration.name)"
          }
        case .wouldDestroy(let migration, let losses):
          let refusal = Refusal(migration, losses)
          output.logger.critical("\(refusal.text)")
          if output.output == .json { try output.write(refusal) { "" } }
          throw ExitStatus.usage
        }
      }
    }

    /// The data that the rollback would destroy. Nothing was changed.
    private struct Refusal: Encodable {
      struct Table: Encodable {
        let table: String
        let columns: [String]
        let rows: Int
      }

      struct Trigger: Encodable {
        let table: String
        let trigger: String
      }

      let status = "failed"
      let error: Failure
      let rolled_back: [String] = []
      let would_destroy: [Table]
      let would_remove: [Trigger]
      private let lines: [String]

      init(_ migration: Migration, _ losses: MigrationLosses) {
        would_destroy = losses.tables.map {
          Table(table: $0.name, columns: $0.columns, rows: $0.rows)
        }
        would_remove = losses.triggers.map { Trigger(table: $0.table, trigger: $0.name) }
        lines = losses.lines
        error = Failure(
          code: ExitStatus.usage.word,
          message: """
            rolling back \(migration.version) \(migration.name) would permanently destroy data that cannot \
            be restored: \(losses.lines.joined(separator: "; "))
            """,
          remedy: "back the schema up (pg_dump --schema=lethe), then add --yes to destroy the data")
      }

      private enum CodingKeys: CodingKey {
        case status, error, rolled_back, would_destroy, would_remove
      }

      var text: String {
        let list = lines.map { "\n  \($0)" }.joined()
        let what = error.message.prefix { $0 != ":" }
        return "\(what):\(list)\n  remedy: \(error.remedy)"
      }
    }
  }

  struct Status: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "List applied and pending migrations.")
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
