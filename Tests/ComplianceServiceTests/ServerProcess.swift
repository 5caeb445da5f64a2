import Foundation
import Testing

/// The real program, as a process of its own that can be killed.
final class ServerProcess {
  private let process: Process
  /// Such as `http://127.0.0.1:40123`; nil if the program ended without listening.
  let baseURL: String?
  /// What was on stderr until then.
  let log: String

  static let executable: URL = {
    // The test bundle and the programs are built into the same directory.
    URL(filePath: ProcessInfo.processInfo.arguments[0]).deletingLastPathComponent()
      .appending(path: "compliance-server")
  }()

  /// Starts the program, and returns once it listens or has ended.
  init(_ arguments: [String], environment: [String: String] = [:]) async throws {
    let process = Process()
    process.executableURL = Self.executable
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment
      .merging(environment) { _, new in new }
    let stderr = Pipe()
    process.standardError = stderr
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    self.process = process
    log = await Self.read(stderr.fileHandleForReading)
    baseURL = log.firstMatch(of: /listens on (http:\S+)/).map { String($0.1) }
  }

  /// Reads until the line that says where it listens, or the end.
  private static func read(_ file: FileHandle) async -> String {
    let descriptor = file.fileDescriptor
    return await withCheckedContinuation { done in
      DispatchQueue.global().async {
        var text = ""
        var byte: UInt8 = 0
        while Foundation.read(descriptor, &byte, 1) == 1 {
          text.unicodeScalars.append(Unicode.Scalar(byte))
          if byte == UInt8(ascii: "\n"), text.contains("listens on ") { break }
        }
        done.resume(returning: text)
      }
    }
  }

  /// Sends the signal and returns the exit code; a signal's number if that is what ended it.
  func end(by signal: Int32) async -> Int32 {
    kill(process.processIdentifier, signal)
    return await exitCode()
  }

  func exitCode() async -> Int32 {
    await withCheckedContinuation { done in
      DispatchQueue.global().async { [process] in
        process.waitUntilExit()
        done.resume(returning: process.terminationStatus)
      }
    }
  }
}
