import ApplyStage
import ArgumentParser
import Definitions
import Foundation
import Ledger
import PostgreSQL
import Runtime
import Vocabulary

/// `lethe holds list|release`: the rows that Lethe hides.
struct HoldsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "holds", abstract: "Show or release the rows that Lethe hides.",
    discussion: """
      A hold is the record of one row that Lethe has hidden. It contains the row's former values, and the IDs whose \
      answers hide it. When newer answers have released all of these IDs, the row gets its former values back.
      """,
    subcommands: [List.self, Release.self])

  struct List: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "List holds in the order in which they were created.",
      discussion: "Former values are not shown, because they can contain content of posts.")

    @OptionGroup var database: DatabaseOption
    @OptionGroup var output: OutputOptions

    @Option(help: "Only rows of this table, with its schema: warehouse.posts.")
    var table: String?

    @Option(help: "Only rows that this ID holds, and the row with this ID.")
    var id: Int64?

    @Option(help: "The type of the IDs: tweets or users.")
    var type: HolderType?

    @Option(help: "Only rows that this pipeline has hidden.")
    var pipeline: String?

    @Option(help: "How many holds to show.")
    var limit = 100

    @Option(help: ArgumentHelp("Only holds with a larger number.", valueName: "hold"))
    var after: Int64 = 0

    mutating func validate() throws {
      guard (1...10_000).contains(limit) else {
        throw ValidationError("--limit must be between 1 and 10000")
      }
    }

    mutating func run() async throws {
      let filter = HoldLedger.Filter(
        table: table, type: type?.jobType, id: id, pipeline: pipeline)
      let (options, limit, after) = (output, limit, after)
      let connectionString = database.connectionString
      try await untilSignalled {
        let (counts, holds) = try await withLedger(connectionString) { connection in
          let ledger = HoldLedger(connection: connection)
          return (
            try await ledger.counts(),
            try await ledger.holds(filter, after: after, limit: limit)
          )
        }
        try options.write(HoldListing(counts, holds)) { text(counts, holds, limit) }
      }
    }
  }

  struct Release: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "End the holds of IDs; rows that no other ID holds get their former values back.",
      discussion: """
        Use it for IDs that no answer will release any more. lethe check and lethe status count these IDs. If another \
        program has changed a row since Lethe hid it, Lethe leaves the row unchanged. The name of the operator and the \
        reason are recorded and sealed.
        """)

    @OptionGroup var pipeline: PipelineArgument
    @Argument(help: "The IDs that hold the rows.")
    var ids: [Int64] = []
    @Option(help: "The type of the IDs: tweets or users.")
    var type: HolderType
    @Flag(
      help: "All IDs of the type that no dataset exports any more, at most 1,000,000 in one call.")
    var unasked = false
    @Flag(help: "Only delete the holds: the rows stay hidden permanently.")
    var keepHidden = false
    @Flag(help: "Also release IDs that the newest answer protects.")
    var force = false
    @Flag(help: "Show what would be done; change nothing.")
    var dryRun = false
    @OptionGroup var decision: DecisionOptions
    @OptionGroup var output: OutputOptions

    mutating func validate() throws {
      guard ids.isEmpty == unasked else {
        throw ValidationError("name the IDs, or use --unasked for all IDs that no dataset exports")
      }
      guard ids.allSatisfy({ $0 > 0 }) else {
        throw ValidationError("an ID is a positive whole number")
      }
    }

    mutating func run() async throws {
      let pipeline = try pipeline.load()
      let options = output
      let release = HoldRelease(
        type: type.jobType, ids: unasked ? nil : ids, keepsHidden: keepHidden, isForced: force,
        isDryRun: dryRun, by: decision.who,
        note: dryRun ? "" : try decision.requiredNote())
      try await untilSignalled {
        switch try await PipelineRuntime.release(release, of: pipeline) {
        case .done(let outcome):
          try options.write(outcome) { outcome.summary(isDryRun: release.isDryRun) }
        case .stopped(let reason, let remedy):
          options.writeError(.limitStopped, reason, remedy: remedy)
          throw ExitStatus.limitStopped
        }
      }
    }
  }
}

/// The person who makes a decision, and the reason.
struct DecisionOptions: ParsableArguments {
  @Option(help: "Who decides. Default: the user of the operating system.")
  var by: String?

  @Option(help: "Why. The note is kept and sealed.")
  var note: String?

  var who: String { by ?? NSUserName() }

  func validate() throws { try requireNotEmpty(by, "--by") }

  func requiredNote() throws -> String {
    guard let note, note.contains(where: { !$0.isWhitespace }) else {
      throw ValidationError("--note must contain the reason")
    }
    return note
  }
}

enum HolderType: String, CaseIterable, ExpressibleByArgument {
  case tweets
  case users

  var jobType: JobType { self == .tweets ? .tweets : .users }
}

// MARK: Output

private func text(
  _ counts: HoldLedger.Counts, _ holds: [HoldLedger.Hold], _ limit: Int
) -> String {
  var lines = [
    "\(grouped(counts.holds)) rows are held in total, by \(grouped(counts.holders)) IDs"
  ]
  if counts.protections > 0 {
    lines.append(
      """
      \(grouped(counts.protections)) IDs were protected by an earlier version of Lethe, which had no holds: Lethe \
      finds their rows at the next answer that releases them
      """)
  }
  guard !holds.isEmpty else { return lines.joined(separator: "\n") }
  var table = Table("hold", "table", "row", "columns", "since", "held by")
  for hold in holds {
    table.add(
      "\(hold.holdID)", hold.table, hold.key, hold.columns.joined(separator: ", "), hold.heldAt,
      hold.holders.map { "\($0.type) \($0.id) (\($0.pipeline)/\($0.dataset), job \($0.jobID))" }
        .joined(separator: ", "))
  }
  lines += ["", table.text]
  if holds.count == limit, let last = holds.last {
    lines.append("\(limit) holds; the next ones: --after \(last.holdID)")
  }
  return lines.joined(separator: "\n")
}

private struct HoldListing: Encodable {
  let held_rows, holding_ids, protected_ids: Int
  let holds: [Hold]

  init(_ counts: HoldLedger.Counts, _ holds: [HoldLedger.Hold]) {
    held_rows = counts.holds
    holding_ids = counts.holders
    protected_ids = counts.protections
    self.holds = holds.map(Hold.init)
  }

  struct Hold: Encodable {
    let hold: Int64
    let table, key, held_at: String
    let columns: [String]
    let holders: [Holder]

    init(_ hold: HoldLedger.Hold) {
      self.hold = hold.holdID
      table = hold.table
      key = hold.key
      held_at = hold.heldAt
      columns = hold.columns
      holders = hold.holders.map(Holder.init)
    }
  }

  struct Holder: Encodable {
    let type, id, pipeline, dataset, asked_at: String
    let job_id: Int64
    let columns: [String]

    init(_ holder: HoldLedger.Holder) {
      type = holder.type.rawValue
      id = "\(holder.id)"
      pipeline = holder.pipeline
      dataset = holder.dataset
      asked_at = holder.askedAt
      job_id = holder.jobID
      columns = holder.columns
    }
  }
}

extension HoldRelease.Outcome {
  func summary(isDryRun: Bool) -> String {
    var parts = ["\(grouped(restored)) rows \(isDryRun ? "would be" : "are") restored"]
    if keptHidden > 0 {
      parts.append(
        "\(grouped(keptHidden)) rows \(isDryRun ? "would stay" : "stay") hidden permanently")
    }
    if held > 0 { parts.append("\(grouped(held)) rows are still held by other IDs") }
    if changed > 0 {
      parts.append(
        "\(grouped(changed)) rows were changed by another program, and Lethe does not change them")
    }
    if gone > 0 { parts.append("\(grouped(gone)) rows do not exist any more") }
    if waits > 0 {
      parts.append(
        """
        \(grouped(waits)) rows stay hidden for now: IDs that an earlier version of Lethe protected without holds also \
        hide them, or Lethe cannot find them, because the table or a column is missing or row-level security might \
        hide rows
        """)
    }
    if protections > 0 {
      parts.append(
        "\(grouped(protections)) protections \(isDryRun ? "would be" : "are") deleted")
    }
    return parts.joined(separator: "\n")
  }
}
