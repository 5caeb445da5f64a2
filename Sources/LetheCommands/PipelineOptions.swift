import ArgumentParser
import Definitions
import Foundation
import PostgreSQL

/// The pipeline that a command works on.
struct PipelineArgument: ParsableArguments {
  @Argument(help: "The pipeline's definition, such as pipelines/nightly.yaml.")
  var pipeline: String

  func load() throws -> Pipeline {
    try Pipeline.load(file: pipeline, environment: ProcessInfo.processInfo.environment)
  }
}

struct WorkDirectoryOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where chunk files are kept while a run needs them.",
      discussion: """
        Default: $LETHE_WORK_DIR, or ~/.local/state/lethe. Named by either, it counts for runs that are \
        resumed, too: their files are brought there, or written again.
        """, valueName: "dir"))
  var workDir: String?

  /// Whether somebody has named the folder: then it counts for runs that are resumed, too.
  var isGiven: Bool {
    workDir != nil || ProcessInfo.processInfo.environment["LETHE_WORK_DIR"] != nil
  }

  /// Absolute: a run that is resumed from elsewhere must find its files.
  var path: String {
    let environment = ProcessInfo.processInfo.environment
    let state = environment["XDG_STATE_HOME"] ?? NSHomeDirectory() + "/.local/state"
    let path = workDir ?? environment["LETHE_WORK_DIR"] ?? state + "/lethe"
    return URL(fileURLWithPath: path).standardizedFileURL.path
  }
}

/// A database by itself, for the commands that need no pipeline.
struct DatabaseOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A libpq connection string. Default: $DATABASE_URL, or what the PG* variables say.",
      valueName: "url"))
  var database: String?

  var connectionString: ConnectionString {
    ConnectionString(database ?? ProcessInfo.processInfo.environment["DATABASE_URL"] ?? "")
  }
}
