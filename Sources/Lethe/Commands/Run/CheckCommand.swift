import ApplyStage
import ArgumentParser
internal import DefinitionFiles
import Definitions
import Logging
import Runtime
import Warehouse

/// `lethe check PIPELINE`: compares the definition with the live database, and checks what else a run needs.
struct CheckCommand: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check a definition against the live database and the API; change nothing.",
    discussion: """
      Exits with 2 if a run, or some of its changes, would be refused; with 77 if only the API's token is refused; \
      and with 75 if the only problem is that the API does not respond.
      """)

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var output: OutputOptions
  @Flag(
    inversion: .prefixedNo,
    help: "Try each change on one row of its table and of each partition, and roll it back.")
  var rehearsal = true

  @Flag(help: "Do not check the API and its token.")
  var offline = false

  @Flag(
    help: """
      Only print the GRANT statements that a role needs to run the pipeline. This needs only the right to \
      read the catalog.
      """)
  var grants = false

  @Option(
    help: "With --grants: for this role. Default: the role of the warehouse's connection.")
  var role: String?

  mutating func validate() throws {
    guard role == nil || grants else { throw ValidationError("--role needs --grants") }
    guard role.map({ !$0.isEmpty }) ?? true else {
      throw ValidationError("--role must not be empty")
    }
  }

  mutating func run() async throws {
    let (options, role) = (output, role)
    let pipeline: Pipeline
    do {
      pipeline = try self.pipeline.load(readingToken: !(offline || grants))
    } catch let error as DefinitionError {
      let result = Result(
        findings: error.all.map(Line.init), rehearsed: false, error: Failure(of: error))
      try options.write(result) { result.findings.map(\.text).joined(separator: "\n") }
      throw ExitStatus.usage
    }
    if grants {
      try await untilSignalled {
        let statements = try await PipelineRuntime.grants(for: role, of: pipeline)
        try options.write(["grants": statements]) {
          statements.map { "\($0);" }.joined(separator: "\n")
        }
      }
      return
    }
    let (directory, offline, rehearses) = try (workDirectory.path, offline, rehearsal)
    try await untilSignalled {
      let environment = EnvironmentCheck(pipeline, logger: options.logger)
      let api: (outcome: EnvironmentCheck.APIOutcome, findings: [Finding]) =
        if offline { (.responded, []) } else { try await environment.api() }
      let findings =
        try await PipelineRuntime.findings(of: pipeline, rehearses: rehearses) {
          options.logger.notice("\($0)")
        } + environment.workDirectory(directory)
      let lines = (findings + api.findings).map {
        Line(finding: $0, file: pipeline.file, line: pipeline.line(of: $0.path))
      }
      let status = Self.status(findings, api.outcome)
      let isRehearsed = rehearses && !findings.contains(.notRehearsed)
      let result = Result(
        findings: lines, rehearsed: isRehearsed, error: Self.failure(lines, status))
      try options.write(result) {
        ([Self.verdict(pipeline.file, findings, rehearses)].compactMap(\.self)
          + lines.map(\.text)).joined(separator: "\n")
      }
      guard status == .done else { throw status }
    }
  }

  private static func status(
    _ findings: [Finding], _ api: EnvironmentCheck.APIOutcome
  ) -> ExitStatus {
    if findings.contains(where: { $0.severity == .error }) { return .usage }
    switch api {
    case .responded: return .done
    case .refused: return .credentials
    case .untried: return .temporary
    case .faulty: return .usage
    }
  }

  private static func failure(_ lines: [Line], _ status: ExitStatus) -> Failure? {
    guard status != .done else { return nil }
    let errors = lines.filter { $0.severity == Finding.Severity.error.rawValue }
    guard let first = errors.first ?? lines.last else { return nil }
    let more = errors.count > 1 ? "; and \(errors.count - 1) more, in findings" : ""
    return Failure(code: status.word, message: first.message + more, remedy: first.remedy)
  }

  /// The first line of the result. Nil if a finding is an error or a warning. Findings about the API do not count.
  private static func verdict(
    _ file: String, _ findings: [Finding], _ rehearses: Bool
  ) -> String? {
    guard findings.allSatisfy({ $0.severity == .note }) else { return nil }
    let fits = "\(file): the definition fits the database"
    if !rehearses { return "\(fits); its changes were not rehearsed" }
    return findings.isEmpty ? fits : "\(fits), apart from what was not checked:"
  }

  private struct Result: Encodable {
    let findings: [Line]
    let rehearsed: Bool
    /// The first error, or the last finding if the check failed without an error. Nil after success. If the definition
    /// cannot be read, this is the definition's error, and the database was not checked.
    let error: Failure?
  }

  private struct Line: Encodable {
    let file: String
    let line: Int?
    let severity: String
    /// The path of the key in the definition that the finding is about. Left out if the definition cannot be read.
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
