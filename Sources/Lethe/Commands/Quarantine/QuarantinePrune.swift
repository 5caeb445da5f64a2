import ArgumentParser
import Ledger

/// `lethe quarantine prune`: drops lines that were resolved long ago.
struct QuarantinePrune: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune", abstract: "Drop lines that were resolved longer ago than an age.",
    discussion: """
      A line contains the text that the API sent. Open lines are never dropped. What is dropped \
      is recorded in the chain of evidence.
      """)

  @OptionGroup var database: DatabaseOption
  @OptionGroup var output: OutputOptions

  @Option(help: ArgumentHelp("Such as 90d, 6months, or a date: 2026-11-01.", valueName: "age"))
  var olderThan: AuditPrune.Age

  @Flag(help: "Show what would be dropped; drop nothing.")
  var dryRun = false

  mutating func run() async throws {
    let (age, isDryRun, options) = (olderThan.age, dryRun, output)
    try await withQuarantine(database) { quarantine in
      let pruning = try await quarantine.prune(resolvedBefore: age, isDryRun: isDryRun)
      try options.write(Result(pruning, isDryRun: isDryRun)) {
        guard pruning.lines > 0 else { return "no resolved line is that old: nothing to drop" }
        let what = "\(grouped(pruning.lines)) resolved lines with \(grouped(pruning.bytes)) bytes"
        let seal =
          pruning.sealNumber.map { "; recorded as record \($0) of the chain of evidence" } ?? ""
        return isDryRun ? "would drop \(what)" : "dropped \(what)\(seal)"
      }
    }
  }

  private struct Result: Encodable {
    let dry_run: Bool
    let lines, bytes: Int
    let seal: Int64?

    init(_ pruning: QuarantineLedger.Pruning, isDryRun: Bool) {
      dry_run = isDryRun
      lines = pruning.lines
      bytes = pruning.bytes
      seal = pruning.sealNumber
    }
  }
}
