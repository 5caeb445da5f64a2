internal import Foundation
public import SystemPackage

/// One of the package's programs as a separate process, which can be killed.
public final class Program: Sendable {
  public struct Result: Sendable {
    /// The exit code, or the number of the signal that ended the process.
    public let code: Int32
    public let stdout: String
    public let stderr: String

    /// The last line of stdout as a JSON object. Empty if the line is not a JSON object.
    public var json: [String: Any] {
      let line = stdout.split(separator: "\n").last ?? ""
      let object = try? JSONSerialization.jsonObject(with: Data(line.utf8))
      return object as? [String: Any] ?? [:]
    }
  }

  public var processIdentifier: Int32 { process.processIdentifier }
  private let process: ChildProcess
  private let result: Task<Result, Never>

  /// Starts a program that was built with the tests.
  /// - Parameters:
  ///   - variables: variables to remove from the program's environment.
  ///   - launcher: a command that runs the program. The program's path and arguments follow.
  public convenience init(
    _ name: String, _ arguments: [String], environment: [String: String] = [:],
    without variables: [String] = [], launcher: [String] = []
  ) throws {
    try self.init(
      command: launcher + [Self.path(name)] + arguments, environment: environment,
      without: variables)
  }

  private init(
    command: [String], environment: [String: String], without variables: [String],
    directory: String? = nil, stdin: FileDescriptor? = nil
  ) throws {
    let (stdout, stderr) = (try ScratchFile(), try ScratchFile())
    process = try ChildProcess(
      command,
      environment: ProcessInfo.processInfo.environment.merging(environment) { $1 }
        .filter { !variables.contains($0.key) },
      directory: directory, stdin: stdin, stdout: stdout.descriptor, stderr: stderr.descriptor)
    result = Task { [process] in
      let code = await process.ended()
      return Result(code: code, stdout: stdout.finish(), stderr: stderr.finish())
    }
  }

  /// The path of a program that was built with the tests.
  public static func path(_ name: String) -> String {
    URL(filePath: ProcessInfo.processInfo.arguments[0]).deletingLastPathComponent()
      .appending(path: name).path
  }

  /// Waits for the program's end. If the task is cancelled, for example because the test's time limit has passed, kills
  /// the program: a program that hangs must not block the other tests.
  public func ended() async -> Result {
    await withTaskCancellationHandler {
      await result.value
    } onCancel: {
      process.send(signal: SIGKILL)
    }
  }

  public var hasEnded: Bool { process.exitCode != nil }

  public func send(signal: Int32) {
    process.send(signal: signal)
  }

  /// Runs a program to its end.
  public static func run(
    _ name: String, _ arguments: [String], environment: [String: String] = [:],
    without variables: [String] = [], launcher: [String] = []
  ) async throws -> Result {
    try await Program(
      name, arguments, environment: environment, without: variables, launcher: launcher
    ).ended()
  }

  /// Runs an external program to its end.
  /// - Parameters:
  ///   - command: the program's path and its arguments.
  ///   - variables: variables to remove from the program's environment.
  ///   - directory: the working directory. By default, it is the working directory of the tests.
  ///   - stdin: a file. Nil means an empty input.
  public static func external(
    _ command: [String], environment: [String: String] = [:], without variables: [String] = [],
    directory: String? = nil, stdin: FilePath? = nil
  ) async throws -> Result {
    let input = try stdin.map { try FileDescriptor.open($0, .readOnly, options: .closeOnExec) }
    defer { try? input?.close() }
    return try await Program(
      command: command, environment: environment, without: variables, directory: directory,
      stdin: input
    ).ended()
  }
}
