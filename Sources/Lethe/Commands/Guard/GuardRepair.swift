import ArgumentParser
import Definitions
import Foundation
import Ledger
import PostgreSQL

/// `lethe guard repair PIPELINE`: removes tombstones of the wrong type. They were created from rows whose IDs have
/// another type.
struct GuardRepair: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "repair",
    abstract:
      "Remove tombstones that earlier versions created from IDs of neither posts nor users.",
    discussion: """
      Earlier versions treated the id of every target as the ID of a post. For example, for an X list \
      they created the tombstone of the post with the same ID, and a guard kept that post out. A tombstone is \
      removed only if it is proven wrong: its event record names a target to which the definition now gives \
      another type, and no other record shows that the ID was deleted. The event records are kept, and a new record \
      is added to the chain of evidence.
      """)

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var output: OutputOptions

  @Flag(help: "Show what would be removed; change nothing.")
  var dryRun = false

  @Option(help: "Who removes the tombstones. Default: the user of the operating system.")
  var by: String?

  @Option(help: "Why they are removed. The note is kept in the chain of evidence.")
  var note: String?

  mutating func validate() throws {
    try requireNotEmpty(by, "--by")
    try requireNotEmpty(note, "--note")
  }

  mutating func run() async throws {
    let pipeline = try pipeline.load()
    let (options, isDryRun, note) = (output, dryRun, note)
    let `operator` = by ?? NSUserName()
    try await untilSignalled {
      let findings = try await withLedger(pipeline.warehouse) {
        try await TombstoneRepair(connection: $0).repair(
          pipeline.definition, by: `operator`, note: note, isDryRun: isDryRun)
      }
      try options.write(Result(findings, isDryRun: isDryRun)) {
        Self.text(findings, isDryRun: isDryRun)
      }
    }
  }

  private static func text(_ found: TombstoneRepair.Findings, isDryRun: Bool) -> String {
    var lines = found.wrong.sorted { $0.key < $1.key }.map { table, count in
      "\(grouped(count)) tombstones of rows of \(table) \(isDryRun ? "would be" : "were") removed"
    }
    if lines.isEmpty { lines = ["no tombstone is proven wrong"] }
    lines += found.undecided.sorted { $0.key < $1.key }.map { table, count in
      """
      \(grouped(count)) tombstones of rows of \(table) stay: the definition does not give the type of their IDs; add \
      the target with its id and type
      """
    }
    lines += found.justified.sorted { $0.key < $1.key }.map { table, count in
      "\(grouped(count)) tombstones of rows of \(table) stay: another record shows that the ID was deleted"
    }
    if found.unprovable > 0 {
      lines.append(
        """
        \(grouped(found.unprovable)) other tombstones of the same runs might be wrong, too, and stay: their event \
        records were pruned
        """)
    }
    if found.unreadableRuns > 0 {
      lines.append(
        "the definitions of \(grouped(found.unreadableRuns)) runs cannot be read: their tombstones stay"
      )
    }
    if let number = found.sealNumber {
      lines.append("recorded as record \(number) of the chain of evidence")
    }
    return lines.joined(separator: "\n")
  }

  private struct Result: Encodable {
    let dry_run: Bool
    let tombstones: Int
    let wrong, undecided, justified: [String: Int]
    let unprovable, unreadable_runs: Int
    let seal: Int64?

    init(_ found: TombstoneRepair.Findings, isDryRun: Bool) {
      dry_run = isDryRun
      tombstones = found.tombstones
      wrong = found.wrong
      undecided = found.undecided
      justified = found.justified
      unprovable = found.unprovable
      unreadable_runs = found.unreadableRuns
      seal = found.sealNumber
    }
  }
}
