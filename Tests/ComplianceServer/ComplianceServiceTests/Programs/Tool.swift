import Foundation
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
  ///   - command: the script's name, and its arguments. It prints its port and serves until its stdin ends.
  ///   - body: called with the port.
  static func serving<R: Sendable>(
    _ command: [String], _ body: (Int) async throws -> R
  ) async throws -> R {
    let process = Process()
    process.executableURL = URL(filePath: try path("python"))
    process.arguments = [script(command[0])] + command.dropFirst()
    let (stdin, stdout) = (Pipe(), Pipe())
    process.standardInput = stdin
    process.standardOutput = stdout
    process.standardError = FileHandle.nullDevice
    try process.run()
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
    let process = Process()
    process.executableURL = URL(filePath: path)
    process.arguments = arguments
    if let directory { process.currentDirectoryURL = URL(filePath: directory) }
    process.environment = ProcessInfo.processInfo.environment
      .merging(environment) { _, new in new }
    let (stdout, stderr) = (Pipe(), Pipe())
    process.standardOutput = stdout
    process.standardError = stderr
    try process.run()
    let identifier = process.processIdentifier
    let (output, errors) = await withTaskCancellationHandler {
      async let errorText = read(stderr)
      return (await read(stdout), await errorText)
    } onCancel: {
      // A program that hangs must not block the tests.
      kill(identifier, SIGKILL)
    }
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failed(
        description:
          "\(path) \(arguments) ended with \(process.terminationStatus):\n\(output)\n\(errors)")
    }
    return output
  }

  /// Returns the text until the first line feed or the end.
  static func firstLine(_ pipe: Pipe) async -> String {
    await withCheckedContinuation { done in
      DispatchQueue.global().async {
        var line: [UInt8] = []
        let file = pipe.fileHandleForReading
        while let byte = try? file.read(upToCount: 1)?.first, byte != UInt8(ascii: "\n") {
          line.append(byte)
        }
        done.resume(returning: String(decoding: line, as: UTF8.self))
      }
    }
  }

  private static func read(_ pipe: Pipe) async -> String {
    await withCheckedContinuation { done in
      DispatchQueue.global().async {
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        done.resume(returning: String(decoding: data, as: UTF8.self))
      }
    }
  }
}
