import ArgumentParser
import Runtime

/// The parts that the five stage commands share.
protocol StageCommand: AsyncParsableCommand, OutputCommand {
  var pipeline: PipelineArgument { get }
  var workDirectory: WorkDirectoryOption { get }
  var stage: StageOptions { get }
}

struct StageOptions: ParsableArguments {
  @Flag(help: "Exit with 99 if there was nothing to do.")
  var skipIfIdle = false
}

extension StageCommand {
  /// Runs one stage and writes its report.
  /// - Parameter reportsQuarantine: whether the stage also reports the pipeline's open lines in the quarantine.
  func runStage(
    reportsQuarantine: Bool = false,
    _ body: @escaping @Sendable (PipelineRuntime) async throws -> PipelineRuntime.StageReport
  ) async throws {
    let pipeline = try pipeline.load()
    let (options, directory, skipIfIdle) = try (output, workDirectory.path, stage.skipIfIdle)
    let isGiven = workDirectory.isGiven
    try await untilSignalled {
      let (report, openLines) = try await PipelineRuntime.with(
        pipeline, workDirectory: directory, movingRuns: isGiven, logger: options.logger
      ) { runtime -> (PipelineRuntime.StageReport, Int) in
        let report = try await body(runtime)
        guard reportsQuarantine else { return (report, 0) }
        return (report, try await runtime.openQuarantine())
      }
      let status = ExitStatus(of: report.runs, openLines: openLines)
      let error = Failure(of: report.runs, openLines: openLines, status)
      try options.write(StageResult(report: report, error: error)) { report.summary }
      guard status == .done else { throw status }
      if skipIfIdle, report.chunks == 0, report.waiting == 0 { throw ExitStatus.idle }
    }
  }
}

/// The result of a stage. `error` describes the work that waits for an operator.
struct StageResult: Encodable {
  let report: PipelineRuntime.StageReport
  let error: Failure?

  enum CodingKeys: CodingKey {
    case status, error
  }

  func encode(to encoder: any Encoder) throws {
    try report.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(error?.code ?? "done", forKey: .status)
    try container.encodeIfPresent(error, forKey: .error)
  }
}

extension PipelineRuntime.StageReport {
  var summary: String {
    var lines = ["\(stage): \(chunks) chunks"]
    if waiting > 0 { lines.append("\(waiting) chunks wait for \(stage)") }
    lines += runs.filter { $0.status != .running }.map(\.table)
    return lines.joined(separator: "\n")
  }
}

struct ExportCommand: StageCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Export the stored IDs into chunks.",
    discussion: """
      Continues the unfinished run if it has work left. Otherwise, it starts a run.
      """)

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var stage: StageOptions
  @OptionGroup var output: OutputOptions

  mutating func run() async throws { try await runStage { try await $0.export() } }
}

struct SubmitCommand: StageCommand {
  static let configuration = CommandConfiguration(
    commandName: "submit", abstract: "Submit the next chunk of each type as a job.",
    discussion: """
      The API accepts one job of a type at a time. With several chunks, call submit and await alternately until \
      submit --skip-if-idle exits with 99.
      """)

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var stage: StageOptions
  @OptionGroup var output: OutputOptions

  mutating func run() async throws { try await runStage { try await $0.submit() } }
}

struct AwaitCommand: StageCommand {
  static let configuration = CommandConfiguration(
    commandName: "await", abstract: "Wait for the submitted jobs.")

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var stage: StageOptions
  @OptionGroup var output: OutputOptions

  mutating func run() async throws { try await runStage { try await $0.awaitJobs() } }
}

struct CollectCommand: StageCommand {
  static let configuration = CommandConfiguration(
    commandName: "collect", abstract: "Download the results of complete jobs into the ledger.")

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var stage: StageOptions
  @OptionGroup var output: OutputOptions

  mutating func run() async throws { try await runStage { try await $0.collect() } }
}

struct ApplyCommand: StageCommand {
  static let configuration = CommandConfiguration(
    commandName: "apply", abstract: "Apply the collected events to the warehouse.")

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var stage: StageOptions
  @OptionGroup var output: OutputOptions

  @Option(help: ArgumentHelp("Apply a chunk that a limit has stopped.", valueName: "chunk"))
  var approve: Int64?

  @Option(help: "With --approve: who approves. Default: the user of the operating system.")
  var by: String?

  @Option(help: "With --approve: why. The note is kept with the chunk and sealed.")
  var note: String?

  mutating func validate() throws {
    guard approve != nil || (by == nil && note == nil) else {
      throw ValidationError("--by and --note need --approve")
    }
    try requireNotEmpty(by, "--by")
  }

  mutating func run() async throws {
    let (approved, by, note) = (approve, by, note)
    try await runStage(reportsQuarantine: true) {
      try await $0.apply(approving: approved, by: by, note: note)
    }
  }
}
