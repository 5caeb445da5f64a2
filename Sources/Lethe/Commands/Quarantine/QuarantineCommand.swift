import ArgumentParser
import Foundation
import Ledger
import PostgreSQL
import Runtime

/// `lethe quarantine list|retry|dismiss|prune`: result lines that were not applied.
struct QuarantineCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quarantine",
    abstract: "List, retry, dismiss or drop result lines that were not applied.",
    subcommands: [List.self, Retry.self, Dismiss.self, QuarantinePrune.self])

  struct List: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(abstract: "List the open lines, oldest first.")

    @OptionGroup var database: DatabaseOption
    @OptionGroup var output: OutputOptions

    @Option(help: "Only the lines of this pipeline.")
    var pipeline: String?

    @Flag(help: "Also show lines that were retried, dismissed or answered later.")
    var all = false

    @Flag(help: "Show each line completely, not only its beginning.")
    var raw = false

    @Option(help: "How many lines to show.")
    var limit = 100

    @Option(help: ArgumentHelp("Only lines with a larger ID.", valueName: "id"))
    var after: Int64 = 0

    /// Without `--raw`, JSON contains at most this number of a line's bytes. A table shows at most 80 characters.
    private static let prefixBytes = 512
    private static let lineBytesMax = 64 * 1024

    mutating func validate() throws {
      guard (1...10_000).contains(limit) else {
        throw ValidationError("--limit must be between 1 and 10000")
      }
    }

    mutating func run() async throws {
      let (options, name, all, limit, after) = (output, pipeline, all, limit, after)
      let bytes = raw ? Self.lineBytesMax : Self.prefixBytes
      let scalars = raw ? Self.lineBytesMax : 80
      try await withQuarantine(database) { quarantine in
        let lines = try await quarantine.lines(
          pipeline: name, includingResolved: all, after: after, limit: limit, rawBytesMax: bytes)
        let open = try await quarantine.openLines(pipeline: name)
        try options.write(Listing(open: open, lines: lines.map(ListedLine.init))) {
          guard !lines.isEmpty else { return "no line\(all ? "" : " is open")" }
          var table = Table(
            "id", "chunk", "job", "line", "about", "seen", "last seen", "why", "resolved", "raw")
          for line in lines {
            table.add(
              "\(line.quarantineID)", "\(line.chunkID)", line.job ?? "-", "\(line.number)",
              line.id.map(String.init) ?? "-", grouped(line.seen), line.lastSeenAt, line.why,
              line.resolution.map { "\($0)\(line.note.map { ": \($0)" } ?? "")" } ?? "-",
              printable(line.raw, scalarsMax: scalars))
          }
          return table.text
            + (lines.count == limit
              ? "\n\(limit) lines; the next ones: --after \(lines[limit - 1].quarantineID)" : "")
        }
      }
    }
  }

  struct Retry: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "Read open lines again and apply those that are events now.",
      discussion: """
        Use it after an upgrade to a version that supports more actions or reasons. A line that still \
        cannot be applied stays open, with the reason. If the warehouse refuses a line's event, the line \
        stays open and changes nothing. Exits with 3 if a limit refused lines (check them, then use \
        --approve), and with 4 if a line of the pipeline is still open.
        """)

    @OptionGroup var pipeline: PipelineArgument
    @Argument(help: "Only these lines, by their IDs in the list.")
    var ids: [Int64] = []
    @Flag(help: "Apply the lines even beyond the limits. The approval is kept and sealed.")
    var approve = false
    @Option(help: "With --approve: who approves. Default: the user of the operating system.")
    var by: String?
    @Option(help: "With --approve: why.")
    var note: String?
    @OptionGroup var workDirectory: WorkDirectoryOption
    @OptionGroup var output: OutputOptions

    mutating func validate() throws {
      guard approve || (by == nil && note == nil) else {
        throw ValidationError("--by and --note need --approve")
      }
      try requireNotEmpty(by, "--by")
    }

    mutating func run() async throws {
      let pipeline = try pipeline.load()
      let (options, directory) = try (output, workDirectory.path)
      let isGiven = workDirectory.isGiven
      let ids = ids.isEmpty ? nil : Set(ids)
      let approval =
        approve ? PipelineRuntime.LimitApproval(by: by ?? NSUserName(), note: note) : nil
      try await untilSignalled {
        let report = try await PipelineRuntime.with(
          pipeline, workDirectory: directory, movingRuns: isGiven, logger: options.logger
        ) { try await $0.retryQuarantined(ids, approval: approval) }
        try options.write(report) { report.summary }
        let status =
          report.refused.contains(where: \.isLimit)
          ? ExitStatus.limitStopped : ExitStatus(of: report.runs, openLines: report.open)
        guard status == .done else { throw status }
      }
    }
  }

  struct Dismiss: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "Resolve lines without applying them.")

    @Argument(help: "The lines, by their IDs in the list.")
    var ids: [Int64] = []
    @Flag(help: "Dismiss all open lines.")
    var all = false
    @Option(help: "With --all: only the lines of this pipeline.")
    var pipeline: String?
    @Option(help: "Why. The note is kept with the lines.")
    var note: String
    @OptionGroup var database: DatabaseOption
    @OptionGroup var output: OutputOptions

    mutating func validate() throws {
      guard ids.isEmpty == all else {
        throw ValidationError("name the lines by their IDs, or use --all")
      }
      guard pipeline == nil || all else { throw ValidationError("--pipeline needs --all") }
      guard note.contains(where: { !$0.isWhitespace }) else {
        throw ValidationError("--note must contain the reason")
      }
    }

    mutating func run() async throws {
      let (options, ids, all) = (output, Set(ids), all)
      let (name, note) = (pipeline, note)
      try await withQuarantine(database) { quarantine in
        var dismissed = ids.count
        if all {
          dismissed = try await quarantine.dismissAll(pipeline: name, note: note)
        } else {
          try await quarantine.dismiss(ids, note: note)
        }
        let open = try await quarantine.openLines(pipeline: name)
        try options.write(["dismissed": dismissed, "open": open]) {
          "\(grouped(dismissed)) lines are dismissed, \(grouped(open)) are open"
        }
      }
    }
  }
}

func withQuarantine(
  _ database: DatabaseOption,
  _ body: @escaping @Sendable (QuarantineLedger) async throws -> Void
) async throws {
  let connectionString = database.connectionString
  try await untilSignalled {
    try await withLedger(connectionString) {
      try await body(QuarantineLedger(connection: $0))
    }
  }
}

extension PipelineRuntime.RetryReport {
  var summary: String {
    var parts = ["\(grouped(events)) lines are events now, \(grouped(open)) are open"]
    if superseded > 0 {
      parts.append(
        "\(grouped(superseded)) of them changed nothing, because newer answers about their IDs exist"
      )
    }
    parts += refused.map { line in
      let what =
        line.id.map { "the line about \($0) is refused and stays open" }
        ?? "its lines are refused and stay open"
      return """
        chunk \(line.chunkID): \(what): \(line.why)
          remedy: \(line.remedy)
        """
    }
    return (parts + runs.map(\.table)).joined(separator: "\n")
  }
}
