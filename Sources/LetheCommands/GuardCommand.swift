import ArgumentParser
import Definitions
import PostgreSQL
import Vocabulary
import Warehouse

/// `lethe guard install|remove|list|repair`: what keeps tombstoned IDs from coming back.
struct GuardCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "guard", abstract: "Keep tombstoned IDs from coming back into tables.",
    discussion: """
      A guard is a trigger on a table that looks each new row's ID up among the tombstones. Who \
      inserts rows needs no rights on the ledger.
      """,
    subcommands: [Install.self, Remove.self, List.self, GuardRepair.self])

  struct Options: ParsableArguments {
    @OptionGroup var database: DatabaseOption

    @Option(
      help: ArgumentHelp(
        "How long to wait for the table; who writes to it meanwhile waits behind.",
        valueName: "seconds"))
    var lockTimeout = 3.0

    func validate() throws {
      guard (0.001...3600).contains(lockTimeout) else {
        throw ValidationError("--lock-timeout has to be between 0.001 and 3600 seconds")
      }
    }

    func withGuards<R: Sendable>(
      _ body: @escaping @Sendable (IngestGuards) async throws -> R
    ) async throws -> R {
      let seconds = lockTimeout
      return try await Connection.withConnection(database.connectionString) { connection in
        let hasLedger = try await connection.query(
          "SELECT to_regclass('lethe.tombstone') IS NOT NULL"
        ).onlyRow(as: Bool.self)
        guard hasLedger else {
          throw CommandError(message: "the database has no ledger", remedy: "lethe migrate up")
        }
        return try await body(IngestGuards(connection: connection, lockTimeoutSeconds: seconds))
      }
    }
  }

  struct TableArgument: ParsableArguments {
    @Argument(help: "The table, with its schema: warehouse.posts.")
    var table: String

    func name() throws -> TableName {
      guard let name = TableName(table) else {
        throw ValidationError(
          "\(table) is no name of a table; put a part with blanks or dots in double quotes")
      }
      return name
    }

    func validate() throws { _ = try name() }
  }

  struct Install: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "Put a guard on a table and its partitions, or change the one that is there.")

    @OptionGroup var table: TableArgument
    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    @Option(
      help: ArgumentHelp(
        "The column with the IDs.", discussion: "Default: the primary key, if it is one column.",
        valueName: "column"))
    var id: String?

    @Option(help: "What the IDs are of.")
    var type = IDType.tweets

    @Option(help: "Leave a row with a tombstoned ID out (skip), or refuse the statement (raise).")
    var onReturn = OnReturn.skip

    enum IDType: String, CaseIterable, ExpressibleByArgument {
      case tweets, users

      var jobType: JobType {
        switch self {
        case .tweets: .tweets
        case .users: .users
        }
      }
    }

    enum OnReturn: String, CaseIterable, ExpressibleByArgument {
      case skip, raise

      var consequence: IngestGuard.OnReturn {
        switch self {
        case .skip: .skip
        case .raise: .raise
        }
      }
    }

    mutating func run() async throws {
      let (table, output) = (try table.name(), output)
      let (id, type, onReturn, options) = (id, type.jobType, onReturn.consequence, options)
      try await untilSignalled {
        let guarding = try await options.withGuards { guards in
          let column = if let id { id } else { try await guards.defaultID(of: table) }
          let guarding = IngestGuard(table: table, id: column, type: type, onReturn: onReturn)
          try await guards.install(guarding)
          return guarding
        }
        try output.write(Line(guarding, state: .active)) {
          """
          \(table) is guarded: rows whose \(guarding.id) is that of a tombstone of \(type.rawValue) \
          are \(onReturn == .skip ? "left out" : "refused")
          """
        }
      }
    }
  }

  struct Remove: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(abstract: "Take the guard off a table.")

    @OptionGroup var table: TableArgument
    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    mutating func run() async throws {
      let (table, options, output) = (try table.name(), options, output)
      try await untilSignalled {
        guard try await options.withGuards({ try await $0.remove(from: table) }) else {
          throw CommandError(
            message: "\(table) has no guard", remedy: "lethe guard list names the tables that do")
        }
        try output.write(["removed": "\(table)"]) { "\(table) is no longer guarded" }
      }
    }
  }

  struct List: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(abstract: "List the guarded tables.")

    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    mutating func run() async throws {
      let (options, output) = (options, output)
      try await untilSignalled {
        let lines = try await options.withGuards { try await $0.all() }
          .map { Line($0.guarding, state: $0.state) }
        try output.write(["guards": lines]) {
          guard !lines.isEmpty else { return "no table is guarded" }
          var table = Table("table", "id", "type", "on return", "state")
          for line in lines {
            table.add(line.table, line.id, line.type, line.on_return, line.state)
          }
          return table.text
        }
      }
    }
  }

  private struct Line: Encodable {
    let table: String
    let id: String
    let type: String
    let on_return: String
    let state: String

    init(_ guarding: IngestGuard, state: InstalledGuard.State) {
      table = "\(guarding.table)"
      id = guarding.id
      type = guarding.type.rawValue
      on_return = guarding.onReturn.rawValue
      self.state =
        switch state {
        case .active: "active"
        case .disabled: "disabled"
        case .outdated: "outdated: the column was changed, install it anew"
        }
    }
  }
}
