import ArgumentParser
import Runtime

/// `lethe retry PIPELINE CHUNK`: applies a chunk or events that were set aside.
struct RetryCommand: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "retry",
    abstract: "Apply again a chunk that was set aside, or events that were refused.",
    discussion: """
      Use it after you have removed the cause, for example a foreign key, a trigger or a missing privilege. The \
      rest of the chunk is applied with the definition of its run. Events that a newer answer has superseded are \
      dropped first, and the limits are checked again. Events that are refused again are set aside again.

      A chunk that failed before it had a result has nothing to apply: the next run asks about its IDs \
      again. The exit codes are those of lethe run, for the retried part only.
      """)

  @OptionGroup var pipeline: PipelineArgument

  @Argument(help: "The chunk's number in the report or in lethe status.")
  var chunk: Int64?

  @Option(
    name: .customLong("id"),
    help: ArgumentHelp("Only the refused event of this ID. Can be repeated.", valueName: "id"))
  var ids: [Int64] = []

  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var output: OutputOptions

  mutating func validate() throws {
    guard chunk != nil || !ids.isEmpty else {
      throw ValidationError("name a chunk, or IDs with --id")
    }
  }

  mutating func run() async throws {
    let pipeline = try pipeline.load()
    let (options, directory) = try (output, workDirectory.path)
    let isGiven = workDirectory.isGiven
    let (chunk, ids) = (chunk, Set(ids))
    try await untilSignalled {
      let report = try await PipelineRuntime.with(
        pipeline, workDirectory: directory, movingRuns: isGiven, logger: options.logger
      ) { try await $0.retry(chunkID: chunk, ids: ids) }
      let status = ExitStatus(of: report.runs)
      let error = Failure(of: report.runs, openLines: 0, status)
      try options.write(StageResult(report: report, error: error)) { report.summary }
      guard status == .done else { throw status }
    }
  }
}
