import ArgumentParser
import Definitions
import Foundation
import PostgreSQL

/// The argument that names the file of a pipeline's definition.
struct PipelineArgument: ParsableArguments {
  @Argument(
    help: "The pipeline's definition, such as pipelines/nightly.yaml.",
    completion: .file(extensions: ["yaml", "yml"]))
  var pipeline: String

  /// - Parameter readingToken: false for commands that do not call the API.
  func load(readingToken: Bool = true) throws -> Pipeline {
    try Pipeline.load(
      file: pipeline, environment: ProcessInfo.processInfo.environment, readingToken: readingToken)
  }
}

struct WorkDirectoryOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where chunk files are kept while a run needs them.",
      discussion: """
        Default: $LETHE_WORK_DIR, or lethe in $XDG_STATE_HOME, or .local/state/lethe in the home folder. A folder \
        from this option or $LETHE_WORK_DIR is also used for resumed runs: their files are moved there, or written \
        again.
        """, valueName: "dir"), completion: .directory)
  var workDir: String?

  /// Whether the option or the variable names the folder. Then it is also used for resumed runs.
  var isGiven: Bool {
    workDir != nil
      || !(ProcessInfo.processInfo.environment["LETHE_WORK_DIR"] ?? "").isEmpty
  }

  /// An absolute path, because a run that is resumed in another directory must find its files.
  var path: String {
    get throws {
      let path = try workDir ?? Self.defaultPath(ProcessInfo.processInfo.environment)
      return URL(fileURLWithPath: path).standardizedFileURL.path
    }
  }

  /// The folder that is used if the option is not given. An empty variable counts as unset. A relative path in
  /// `XDG_STATE_HOME` is ignored, as the XDG Base Directory specification requires, and so is one in `HOME`.
  private static func defaultPath(_ environment: [String: String]) throws -> String {
    func folder(_ name: String) -> String? {
      environment[name].flatMap { $0.hasPrefix("/") ? $0 : nil }
    }
    if let path = environment["LETHE_WORK_DIR"], !path.isEmpty { return path }
    if let state = folder("XDG_STATE_HOME") { return state + "/lethe" }
    guard let home = folder("HOME") ?? homeOfPasswordFile else {
      throw CommandError(
        message: "there is no folder for chunk files: this process's user has no home",
        remedy: "name a folder with --work-dir, or in LETHE_WORK_DIR")
    }
    return home + "/.local/state/lethe"
  }

  private static var homeOfPasswordFile: String? {
    getpwuid(geteuid()).flatMap { entry in
      entry.pointee.pw_dir.map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }
  }
}

/// The database option of commands that need no pipeline.
struct DatabaseOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A libpq connection string. Default: $DATABASE_URL, or the PG* variables.",
      valueName: "url"))
  var database: String?

  var connectionString: ConnectionString {
    ConnectionString(database ?? ProcessInfo.processInfo.environment["DATABASE_URL"] ?? "")
  }
}

/// Refuses an empty text of an option. Nil means that the option is not given.
/// - Throws: `ValidationError`.
func requireNotEmpty(_ text: String?, _ option: String) throws {
  guard text.map({ $0.contains { !$0.isWhitespace } }) ?? true else {
    throw ValidationError("\(option) must not be empty")
  }
}
