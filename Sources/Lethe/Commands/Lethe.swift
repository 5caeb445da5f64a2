public import ArgumentParser
internal import CMalloc
internal import Failures
import Foundation
import Logging
import PostgreSQL
import ProductVersion

/// The program `lethe`.
public struct Lethe: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "lethe",
    abstract:
      "Keep a warehouse of X Posts and users compliant with the decisions of their authors and of X.",
    discussion: """
      A pipeline (pipelines/*.yaml) names the tables. A run exports their IDs, has X's Batch \
      Compliance API check them, and applies the answers: deletions, protections, geo scrubs.

      EXIT CODES: 0 done, 1 failed, 2 usage or definition, 3 stopped by a limit, 4 quarantine not \
      empty, 5 a chunk or an event was set aside, 6 another process works on the pipeline, 75 \
      temporary: run again, 77 credentials refused, 99 nothing to do (only with --skip-if-idle). If \
      several apply, the first of these is used: 2, 1, 3, 5, 4.
      """,
    version: Product.version,
    subcommands: [
      RunCommand.self, ExportCommand.self, SubmitCommand.self, AwaitCommand.self,
      CollectCommand.self, ApplyCommand.self, RetryCommand.self, PlanCommand.self,
      CheckCommand.self, StatusCommand.self, QuarantineCommand.self, HoldsCommand.self,
      AuditCommand.self, GuardCommand.self, MigrateCommand.self, JobsCommand.self,
    ])

  public init() {}

  /// Parses the command line, runs the command and exits with its exit code.
  public static func mainExitingWithStatus() async -> Never {
    ProcessSignals.prepareProcess()
    returnFreedMemory()
    var options: OutputOptions?
    do {
      var command = try parseAsRoot()
      options = (command as? any OutputCommand)?.output
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
      Foundation.exit(ExitStatus.done.rawValue)
    } catch {
      Foundation.exit(report(error, options))
    }
  }

  /// Makes glibc return freed blocks to the system. A run allocates and frees thousands of blocks of a few hundred
  /// kilobytes. Without these settings, glibc would keep them in an arena for each thread, and memory would grow.
  private static func returnFreedMemory() {
    mallopt(M_MMAP_THRESHOLD, 128 * 1024)
    mallopt(M_ARENA_MAX, 2)
  }

  private static func report(_ error: any Error, _ options: OutputOptions?) -> Int32 {
    // A command that throws its exit status has already written its result.
    if let status = error as? ExitStatus { return status.rawValue }
    if let error = explained(error) { return reportExplained(error, options) }
    switch exitCode(for: error) {
    case .success:  // --help and --version print to stdout
      writeLine(fullMessage(for: error), to: STDOUT_FILENO)
      return ExitStatus.done.rawValue
    case .validationFailure:
      writeLine(fullMessage(for: error), to: STDERR_FILENO)
      writeFailure(
        Failure(
          code: ExitStatus.usage.word, message: message(for: error),
          remedy: "run lethe --help, or the command with --help"), options)
      return ExitStatus.usage.rawValue
    default:
      return reportExplained(UnexpectedError(message: "\(error)"), options)
    }
  }

  private static func explained(_ error: any Error) -> (any ExplainedError)? {
    error is CancellationError ? Interrupted(signal: nil) : error as? any ExplainedError
  }

  private static func reportExplained(_ error: any ExplainedError, _ options: OutputOptions?)
    -> Int32
  {
    let text = (error as? PostgreSQLError)?.plainDescription ?? "\(error)"
    (options?.logger ?? StderrLogHandler.logger(.text, .info)).critical("\(text)")
    writeFailure(Failure(of: error), options)
    return ExitStatus(error.disposition).rawValue
  }

  /// Prints the failure as a JSON object if the output format is JSON. A command line that cannot be parsed has no
  /// options, so its arguments are searched for `--output json`.
  private static func writeFailure(_ failure: Failure, _ options: OutputOptions?) {
    let arguments = CommandLine.arguments
    let isJSON =
      options.map { $0.output == .json }
      ?? (arguments.contains("--output=json")
        || zip(arguments, arguments.dropFirst()).contains { $0 == "--output" && $1 == "json" })
    guard isJSON, let line = try? OutputOptions.json(FailedResult(error: failure)) else { return }
    writeLine(line, to: STDOUT_FILENO)
  }
}
