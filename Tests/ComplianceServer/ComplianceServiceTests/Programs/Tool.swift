import Foundation
import SystemPackage
import TestSupport
import Testing

/// External programs that the tests use.
enum Tool {
  struct Failed: Error, CustomStringConvertible {
    let description: String
  }

  /// Returns the path of a program that `make setup` installs into `.build-python`.
  static func path(_ name: String) throws -> String {
    let path = "\(repositoryRootPath)/.build-python/bin/\(name)"
    guard FileManager.default.isExecutableFile(atPath: path) else {
      throw Failed(description: "\(path) is missing: run make setup")
    }
    return path
  }

  /// Returns the path of a script in Tests/tools.
  static func script(_ name: String) -> String { "\(repositoryRootPath)/Tests/tools/\(name)" }

  static func python(
    _ arguments: [String], environment: [String: String] = [:]
  ) async throws -> String {
    try await run(path("python"), arguments, environment: environment)
  }

  /// Runs a server script of Tests/tools while `body` runs.
  /// - Parameters:
  ///   - command: the script's name, and its arguments. The script prints its port and serves until its stdin ends.
  ///   - body: called with the port.
  static func serving<R: Sendable>(
    _ command: [String], _ body: (Int) async throws -> R
  ) async throws -> R {
    let (stdin, stdout) = (Pipe(), Pipe())
    _ = try ChildProcess(
      [path("python"), script(command[0])] + command.dropFirst(),
      stdin: FileDescriptor(rawValue: stdin.fileHandleForReading.fileDescriptor),
      stdout: FileDescriptor(rawValue: stdout.fileHandleForWriting.fileDescriptor))
    try stdin.fileHandleForReading.close()
    try stdout.fileHandleForWriting.close()
    defer { try? stdin.fileHandleForWriting.close() }
    let line = await firstLine(stdout)
    return try await body(try #require(Int(line), "\(command[0]) printed: \(line)"))
  }

  /// Runs a program until it ends, or kills it if the task is cancelled.
  /// - Parameter directory: the working directory. By default, it is the working directory of the tests.
  /// - Returns: the program's stdout.
  /// - Throws: `Failed` with the program's whole output, if the exit code is not 0.
  static func run(
    _ path: String, _ arguments: [String], environment: [String: String] = [:],
    directory: String? = nil
  ) async throws -> String {
    let program = try await Program.external(
      [path] + arguments, environment: environment, directory: directory)
    guard program.code == 0 else {
      throw Failed(
        description: """
          \(path) \(arguments) ended with \(program.code):
          \(program.stdout)
          \(program.stderr)
          """)
    }
    return program.stdout
  }

  /// Returns the text until the first line feed or the end.
  private static func firstLine(_ pipe: Pipe) async -> String {
    let file = pipe.fileHandleForReading
    return await blocking {
      var line: [UInt8] = []
      while let byte = try? file.read(upToCount: 1)?.first, byte != UInt8(ascii: "\n") {
        line.append(byte)
      }
      return String(decoding: line, as: UTF8.self)
    }
  }
}
