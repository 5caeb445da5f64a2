import ArgumentParser
import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// `lethe guard install|remove|list|repair`: the triggers that keep tombstoned IDs from coming back.
struct GuardCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "guard", abstract: "Keep tombstoned IDs from coming back into tables.",
    discussion: """
      A guard is a BEFORE INSERT OR UPDATE row trigger on a table. It looks up each new ID in the \
      tombstones. Roles that insert rows need no privileges on the ledger.
      """,
    subcommands: [Install.self, Remove.self, List.self, GuardRepair.self])

  struct Options: ParsableArguments {
    @OptionGroup var database: DatabaseOption

    @Option(
      help: ArgumentHelp(
        "How long to wait for the table's lock. Other writers of the table wait during this time.",
        valueName: "seconds"))
    var lockTimeout = 3.0

    func validate() throws {
      guard (0.001...3600).contains(lockTimeout) else {
        throw ValidationError("--lock-timeout must be between 0.001 and 3600 seconds")
      }
    }

    func withGuards<R: Sendable>(
      _ body: @escaping @Sendable (IngestGuards) async throws -> R
    ) async throws -> R {
      let seconds = lockTimeout
      return try await withLedger(database.connectionString) {
        try await body(IngestGuards(connection: $0, lockTimeoutSeconds: seconds))
      }
    }
  }

  struct TableArgument: ParsableArguments {
    @Argument(help: "The table, with its schema: warehouse.posts.")
    var table: String

    func name() throws -> TableName {
      guard let name = TableName(table) else {
        throw ValidationError(
          "\"\(table)\" is not a table's name; put parts with spaces or dots in double quotes")
      }
      return name
    }

    func validate() throws { _ = try name() }
  }

  struct Install: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "Install a guard on a table and its partitions, or change the installed one.")

    @OptionGroup var table: TableArgument
    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    @Option(
      help: ArgumentHelp(
        "The column with the IDs.", discussion: "Default: the primary key, if it is one column.",
        valueName: "column"))
    var id: String?

    @Option(help: "The type of the IDs.")
    var type = IDType.tweets

    @Option(help: "For a row with a tombstoned ID: skip leaves it out, raise fails the statement.")
    var onReturn = OnReturn.skip

    @Option(
      help: ArgumentHelp(
        "The names of other BEFORE triggers that change no IDs and redirect no rows, separated by commas.",
        discussion: "Default: the triggers that were acknowledged before and have not changed.",
        valueName: "names"))
    var acknowledgeTriggers: String?

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
      let names = acknowledgeTriggers?.split(separator: ",").map(String.init)
      try await untilSignalled {
        let (installed, proof) = try await options.withGuards { guards in
          let column = if let id { id } else { try await guards.defaultID(of: table) }
          let guarding = IngestGuard(table: table, id: column, type: type, onReturn: onReturn)
          let proof = try await guards.install(
            guarding, acknowledging: names, tombstone: ProbeTombstone.make)
          return (try await guards.guarding(table) ?? .init(guarding: guarding, faults: []), proof)
        }
        try output.write(GuardLine(installed, proof)) {
          let guarded = """
            \(table) is guarded\(proof.isProven ? "" : ", but not all tests were possible"): rows whose \
            \(installed.guarding.id) is that of a tombstone of \(type.rawValue) are \
            \(onReturn == .skip ? "left out" : "refused")
            """
          return ([guarded] + GuardLine.problems(installed, proof)).joined(separator: "\n")
        }
      }
    }
  }

  struct Remove: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(abstract: "Remove the guard from a table.")

    @OptionGroup var table: TableArgument
    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    mutating func run() async throws {
      let (table, options, output) = (try table.name(), options, output)
      try await untilSignalled {
        guard try await options.withGuards({ try await $0.remove(from: table) }) else {
          throw CommandError(
            message: "\(table) has no guard",
            remedy: "run lethe guard list to see the guarded tables")
        }
        try output.write(["removed": "\(table)"]) { "\(table) is no longer guarded" }
      }
    }
  }

  struct List: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "List the guarded tables, and the faults of each guard.",
      discussion: """
        Without --prove, the command only reads PostgreSQL's catalogs. With --prove, a row with the ID of a \
        temporary tombstone is inserted into each table and partition, and rolled back. The exit code \
        is 1 if a guard does not work, and with --prove 75 if a guard could not be tested because its table was \
        locked.
        """)

    @OptionGroup var options: Options
    @OptionGroup var output: OutputOptions

    @Flag(help: "Test each guard: insert rows with a tombstoned ID, and roll them back.")
    var prove = false

    mutating func run() async throws {
      let (options, output, prove) = (options, output, prove)
      try await untilSignalled {
        let lines = try await options.withGuards { guards in
          var lines: [(InstalledGuard, GuardProof?)] = []
          for each in try await guards.all() {
            let proof =
              prove
              ? try await guards.prove(each.guarding, tombstone: ProbeTombstone.make) : nil
            lines.append((each, proof))
          }
          return lines
        }
        let failing = lines.filter { !Self.isWorking($0.0, $0.1) }
        let status: ExitStatus =
          if !failing.isEmpty { .failed } else if lines.contains(where: { $0.1?.isLocked == true })
          {
            .temporary
          } else { .done }
        try output.write(
          Result(
            guards: lines.map { GuardLine($0.0, $0.1) }, error: Self.failure(failing, status))
        ) { Self.text(lines) }
        guard status == .done else { throw status }
      }
    }

    private struct Result: Encodable {
      let guards: [GuardLine]
      let error: Failure?
    }

    private static func failure(
      _ failing: [(InstalledGuard, GuardProof?)], _ status: ExitStatus
    ) -> Failure? {
      switch status {
      case .done: return nil
      case .failed:
        let names = failing.map { "\($0.0.guarding.table)" }.joined(separator: ", ")
        let remedy = failing.lazy.compactMap { $0.0.faults.first?.remedy }.first
        return Failure(
          code: status.word,
          message: "guards that do not work, or that were not completely tested: \(names)",
          remedy: remedy ?? "see came_through and not_tried of each guard; install the guard again")
      default:
        return Failure(
          code: status.word, message: "a guard could not be tested because its table was locked",
          remedy: "run again")
      }
    }

    /// Whether the guard counts as working: its state is `active` or `unsure`, no test row came through, and the test
    /// was complete, was ended by a lock, or was not made. The cause of the state `unsure` might be harmless.
    private static func isWorking(_ installed: InstalledGuard, _ proof: GuardProof?) -> Bool {
      let isSound: Bool =
        switch installed.state {
        case .active, .unsure: true
        case .incomplete, .outdated, .broken, .disabled: false
        }
      return isSound && proof?.leaks.isEmpty != false
        && (proof?.isLocked == true || proof?.isProven != false)
    }

    private static func text(_ lines: [(InstalledGuard, GuardProof?)]) -> String {
      guard !lines.isEmpty else { return "no table is guarded" }
      var table = Table("table", "id", "type", "on return", "state")
      var notes: [String] = []
      for (installed, proof) in lines {
        let line = GuardLine(installed, proof)
        table.add(line.table, line.id, line.type, line.on_return, line.state)
        let problems = GuardLine.problems(installed, proof)
        if !problems.isEmpty { notes += ["\(line.table):"] + problems }
      }
      return ([table.text] + notes).joined(separator: "\n")
    }
  }
}

/// A guard in a result.
private struct GuardLine: Encodable {
  struct Fault: Encodable {
    let state, message, remedy: String
  }

  let table: String
  let id: String
  let type: String
  let on_return: String
  let state: String
  let faults: [Fault]
  /// Whether all tests with rows succeeded. Left out if the guard was not tested.
  let proven: Bool?
  let came_through: [String]?
  let not_tried: [String]?

  init(_ installed: InstalledGuard, _ proof: GuardProof?) {
    let guarding = installed.guarding
    table = "\(guarding.table)"
    id = guarding.id
    type = guarding.type.rawValue
    on_return = guarding.onReturn.rawValue
    state = proof?.leaks.isEmpty == false ? "passed by" : installed.state.rawValue
    faults = installed.faults.map {
      Fault(state: $0.state.rawValue, message: $0.message, remedy: $0.remedy)
    }
    proven = proof?.isProven
    came_through = proof?.leaks
    not_tried = proof?.notTried
  }

  /// The largest number of faults of one kind that are listed. The others are only counted.
  private static let shownMax = 10

  /// The faults, the test rows that the guard did not stop, and the tests that were not possible, as text.
  static func problems(_ installed: InstalledGuard, _ proof: GuardProof?) -> [String] {
    func some(_ all: [String]) -> [String] {
      all.prefix(shownMax)
        + (all.count > shownMax ? ["  … and \(grouped(all.count - shownMax)) more"] : [])
    }
    return some(
      installed.faults.map { "  \($0.state.rawValue): \($0.message)\n    remedy: \($0.remedy)" })
      + some(
        (proof?.leaks ?? []).map { "  the guard did not stop a test row: it came \($0)" })
      + some((proof?.notTried ?? []).map { "  not tested: \($0)" })
  }
}
