import ArgumentParser
import Evidence
import Foundation
import Ledger
import Logging
import Vocabulary

/// `lethe audit export`: the event records of a time range.
struct AuditExport: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write the event records of a time range as CSV or NDJSON, to stdout or a file.",
    discussion: """
      One record for each applied event, and for each row that another ID's event reached (cause_id), \
      in the order in which they are stored. The number of records is printed on stderr.
      """)

  @OptionGroup var database: DatabaseOption
  @OptionGroup var output: OutputOptions

  @Option(
    help: ArgumentHelp(
      "Only events applied at this time or later: a date (UTC), or a time such as 2026-11-01T00:00:00Z.",
      valueName: "date"))
  var from: TimestampArgument

  @Option(help: ArgumentHelp("Only events applied before this time.", valueName: "date"))
  var to: TimestampArgument

  @Option(help: "csv (RFC 4180, with a header) or ndjson.")
  var format = Format.csv

  enum Format: String, CaseIterable, ExpressibleByArgument {
    case csv
    case ndjson

    var ledgerFormat: AuditExportFormat {
      switch self {
      case .csv: .csv
      case .ndjson: .ndjson
      }
    }
  }

  @Option(
    help: ArgumentHelp("Write to this file, completely or not at all.", valueName: "path"),
    completion: .file())
  var file: String?

  mutating func validate() throws {
    guard from.time < to.time else { throw ValidationError("--from must be before --to") }
    guard file != nil || output.output == .table else {
      throw ValidationError("--output json needs --file, because the export is written to stdout")
    }
  }

  mutating func run() async throws {
    let (from, to, format, file) = (from.time, to.time, format.ledgerFormat, file)
    let (options, connectionString) = (output, database.connectionString)
    try await untilSignalled {
      let count = try await AuditCommand.withLedger(connectionString) { ledger in
        guard let file else {
          return try await ledger.exportEvents(
            from: from, to: to, as: format, write: StandardOutput.write)
        }
        return try await WholeFile.write(file) { whole in
          try await ledger.exportEvents(from: from, to: to, as: format) { try whole.append($0) }
        }
      }
      options.logger.notice("\(grouped(count)) event records exported")
      if let file {
        try options.write(Result(file: file, events: count)) {
          "\(file): \(grouped(count)) event records"
        }
      }
    }
  }

  private struct Result: Encodable {
    let file: String
    let events: Int
  }
}
