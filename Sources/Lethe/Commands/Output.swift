import ArgumentParser
import Foundation
import Logging
import SystemPackage

/// The options of every command: how its result and its progress are written.
struct OutputOptions: ParsableArguments {
  enum Output: String, CaseIterable, ExpressibleByArgument {
    case table
    case json
  }

  @Option(help: "How the result is written to stdout; with json, the last line is one object.")
  var output = Output.table

  @Option(help: "How progress is written to stderr: text or json lines.")
  var logFormat = StderrLogHandler.Format.text

  @Option(help: "The lowest level that is logged.")
  var logLevel = Level.info

  enum Level: String, CaseIterable, ExpressibleByArgument {
    case debug, info, notice, warning, error
  }

  var logger: Logger {
    StderrLogHandler.logger(logFormat, Logger.Level(rawValue: logLevel.rawValue) ?? .info)
  }

  /// Writes a result: `table` as text for people, `value` as JSON for programs.
  /// - Throws: `CommandError` if the result cannot be written, for example because the disk is full. A closed pipe is
  ///   no error, because its reader does not want the result.
  func write(_ value: some Encodable, table: () -> String) throws {
    let text =
      switch output {
      case .table: table()
      case .json: try Self.json(value)
      }
    guard let why = writeLine(text, to: STDOUT_FILENO), why != .brokenPipe else { return }
    throw CommandError(
      message: "cannot write the result to stdout: \(why); what the command has changed is kept",
      remedy: "check where stdout goes; lethe status shows the state of the runs")
  }

  /// Reports the error of a command that has no result.
  func writeError(_ status: ExitStatus, _ message: String, remedy: String) {
    logger.critical("\(message)\n  remedy: \(remedy)")
    guard output == .json else { return }
    let failure = Failure(code: status.word, message: message, remedy: remedy)
    if let line = try? Self.json(FailedResult(error: failure)) {
      writeLine(line, to: STDOUT_FILENO)
    }
  }

  /// The value as one line of JSON.
  static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}

protocol OutputCommand {
  var output: OutputOptions { get }
}

extension StderrLogHandler.Format: ExpressibleByArgument {}

/// A text table with headings. Numbers are aligned to the right.
struct Table {
  let headings: [String]
  var rows: [[String]] = []

  init(_ headings: String...) {
    self.headings = headings
  }

  mutating func add(_ cells: String...) {
    rows.append(cells)
  }

  var text: String {
    let widths = headings.indices.map { column in
      ([headings] + rows).map { $0[column].count }.max() ?? 0
    }
    return ([headings] + rows).map { cells in
      zip(cells, widths).map { cell, width in
        let padding = String(repeating: " ", count: width - cell.count)
        let isNumber = !cell.isEmpty && cell.allSatisfy { $0.isNumber || $0 == "," || $0 == "." }
        return isNumber ? padding + cell : cell + padding
      }
      .joined(separator: "  ").replacing(#/\s+$/#, with: "")
    }
    .joined(separator: "\n")
  }
}

/// The number with separators: `1,234,567`.
func grouped(_ number: Int) -> String {
  let digits = String(number.magnitude)
  var result = ""
  for (index, digit) in digits.enumerated() {
    if index > 0, (digits.count - index).isMultiple(of: 3) { result += "," }
    result.append(digit)
  }
  return (number < 0 ? "-" : "") + result
}
