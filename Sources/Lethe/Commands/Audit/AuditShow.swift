import ArgumentParser
import Evidence
import Ledger
import Vocabulary

/// `lethe audit show ID`: everything about one ID.
struct AuditShow: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Show what the ledger contains about one ID, in order of time.",
    discussion: """
      The jobs that asked about the ID, their answers, the changes in each table, changes by another \
      ID's event, and what remains: tombstone, protection, rehydration, quarantined lines. All times \
      are UTC.
      """)

  @Argument(help: "The ID of a post or a user.")
  var id: Int64

  @OptionGroup var database: DatabaseOption
  @OptionGroup var output: OutputOptions

  @Option(help: "Show only the records of the ID of this type: tweets or users.")
  var type: IDType?

  enum IDType: String, CaseIterable, ExpressibleByArgument {
    case tweets
    case users
  }

  mutating func validate() throws {
    guard id > 0 else { throw ValidationError("ID must be from 1 to 9223372036854775807") }
  }

  mutating func run() async throws {
    let (id, type, options, connectionString) = (id, type, output, database.connectionString)
    try await untilSignalled {
      let trail = try await AuditCommand.withLedger(connectionString) {
        try await $0.trail(of: id, type: type.flatMap { JobType(rawValue: $0.rawValue) })
      }
      try options.write(AuditTrailResult(trail)) { AuditTimeline(trail).text }
    }
  }
}
