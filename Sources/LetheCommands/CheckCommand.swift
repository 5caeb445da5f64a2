import ArgumentParser
internal import DefinitionFiles
import Definitions
import Runtime
import Warehouse

/// `lethe check PIPELINE`: the definition against the live database.
struct CheckCommand: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Hold a definition against the live database; change nothing.")

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var output: OutputOptions

  mutating func run() async throws {
    let options = output
    let pipeline: Pipeline
    do {
      pipeline = try self.pipeline.load()
    } catch let error as DefinitionError {
      let result = Result(findings: error.all.map(Line.init), error: Failure(of: error, .usage))
      try options.write(result) { result.findings.map(\.text).joined(separator: "\n") }
      throw ExitStatus.usage
    }
    try await untilSignalled {
      let lines = try await PipelineRuntime.findings(of: pipeline).map {
        Line(finding: $0, file: pipeline.file, line: pipeline.line(of: $0.path))
      }
      try options.write(Result(findings: lines, error: nil)) {
        lines.isEmpty
          ? "\(pipeline.file): the definition fits the database"
          : lines.map(\.text).joined(separator: "\n")
      }
      if lines.contains(where: { $0.severity == "error" }) { throw ExitStatus.usage }
    }
  }

  private struct Result: Encodable {
    let findings: [Line]
    /// If the definition cannot be read; the database was not asked then.
    let error: Failure?
  }

  private struct Line: Encodable {
    let file: String
    let line: Int?
    let severity: String
    /// Of the key; left out where the definition cannot be read.
    let path: String?
    let message: String
    let remedy: String

    init(mistake: DefinitionError) {
      file = mistake.file
      line = mistake.line
      severity = Finding.Severity.error.rawValue
      path = nil
      message = mistake.message
      remedy = mistake.remedy
    }

    init(finding: Finding, file: String, line: Int?) {
      self.file = file
      self.line = line
      severity = finding.severity.rawValue
      path = finding.path
      message = finding.message
      remedy = finding.remedy
    }

    var text: String {
      "\(file)\(line.map { ":\($0)" } ?? ""): \(severity): \(message)\n  remedy: \(remedy)"
    }
  }
}
