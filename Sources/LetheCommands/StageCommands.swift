import ArgumentParser
import Runtime

/// What the five stage commands share.
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
  func runStage(
    _ body: @escaping @Sendable (PipelineRuntime) async throws -> PipelineRuntime.StageReport
  ) async throws {
    let pipeline = try pipeline.load()
    let (options, directory, skipIfIdle) = (output, workDirectory.path, stage.skipIfIdle)
    try await untilSignalled {
      let report = try await PipelineRuntime.with(
        pipeline, workDirectory: directory, logger: options.logger, body)
      try options.write(report) { report.summary }
      let status = ExitStatus(of: report.runs)
      guard status == .done else { throw status }
      if skipIfIdle, report.chunks == 0, report.waiting == 0 { throw ExitStatus.idle }
    }
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
    discussion: "Goes into the run that is unfinished, if there is one; else it begins a run.")

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
      The API takes one job of a type at a time: with several chunks, call submit and await in \
      turn until submit --skip-if-idle exits with 99.
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

  @Option(help: ArgumentHelp("Let a chunk go on that a limit has stopped.", valueName: "chunk"))
  var approve: Int64?

  mutating func run() async throws {
    let approved = approve
    try await runStage { try await $0.apply(approving: approved) }
  }
}
