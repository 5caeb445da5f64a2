import ArgumentParser
import Evidence
import Ledger

/// `lethe audit prune`: drops the event records of old months.
struct AuditPrune: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune",
    abstract: "Drop the event records of complete months that are older than the given age.",
    discussion: """
      The current month is never dropped. Tombstones, and the records of the jobs in the chain of evidence, are kept. \
      What is dropped is recorded in the chain. Run lethe audit verify first, because dropped records cannot be \
      verified later. The database user must own the ledger.
      """)

  @OptionGroup var database: DatabaseOption
  @OptionGroup var output: OutputOptions

  @Option(
    help: ArgumentHelp(
      "The age, such as 25months or 90days (90d), or a date such as 2026-11-01.",
      valueName: "age"))
  var olderThan: Age

  @Flag(help: "Show what would be dropped; drop nothing.")
  var dryRun = false

  mutating func run() async throws {
    let (age, isDryRun) = (olderThan.age, dryRun)
    let (options, connectionString) = (output, database.connectionString)
    try await untilSignalled {
      let pruning = try await AuditCommand.withLedger(connectionString) {
        try await $0.prune(olderThan: age, isDryRun: isDryRun)
      }
      try options.write(Result(pruning, isDryRun: isDryRun)) { Self.table(pruning, isDryRun) }
    }
  }

  private static func table(_ pruning: AuditPruning, _ isDryRun: Bool) -> String {
    guard !pruning.partitions.isEmpty else { return "no month is that old: nothing to drop" }
    var table = Table("partition", "from", "to", "events")
    for partition in pruning.partitions {
      table.add(
        "lethe.\(partition.name)", seconds(partition.from), seconds(partition.to),
        grouped(partition.events))
    }
    let total = "\(grouped(pruning.events)) event records"
    let seal = pruning.sealNumber.map { "; recorded as record \($0) of the chain" } ?? ""
    return table.text + (isDryRun ? "\nwould drop \(total)" : "\ndropped \(total)\(seal)")
  }

  private struct Result: Encodable {
    let dry_run: Bool
    let through: String?
    let events: Int
    let partitions: [Partition]
    let seal: Int64?

    init(_ pruning: AuditPruning, isDryRun: Bool) {
      dry_run = isDryRun
      through = pruning.through
      events = pruning.events
      partitions = pruning.partitions.map {
        Partition(name: $0.name, from: $0.from, to: $0.to, events: $0.events)
      }
      seal = pruning.sealNumber
    }
  }

  private struct Partition: Encodable {
    let name, from, to: String
    let events: Int
  }
}

extension AuditPrune {
  struct Age: ExpressibleByArgument {
    let age: RecordAge

    /// The largest number of days or months. It keeps the date within PostgreSQL's calendar: 50,000 months are about
    /// 4,200 years.
    private static let countMax = 50_000

    init?(argument: String) {
      if let instant = TimestampArgument(argument: argument) {
        age = .before(instant.time)
      } else if let match = argument.wholeMatch(of: #/([0-9]{1,6})(month|months|day|days|d)/#),
        let count = Int(match.1), (1...Self.countMax).contains(count)
      {
        age = match.2.hasPrefix("month") ? .months(count) : .days(count)
      } else {
        return nil
      }
    }
  }
}
