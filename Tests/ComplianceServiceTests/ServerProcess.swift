import Foundation
import TestSupport
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
  ///
  /// - Parameters:
  ///   - launcher: a command that becomes the program, which follows its own arguments.
  ///   - stdout: where its stdout goes.
  init(
    _ arguments: [String], environment: [String: String] = [:], launcher: [String] = [],
    stdout: FileHandle = .nullDevice
  ) async throws {
    let command = launcher + [Self.executable.path] + arguments
    let process = Process()
    process.executableURL = URL(filePath: command[0])
    process.arguments = Array(command.dropFirst())
    process.environment = ProcessInfo.processInfo.environment
      .merging(environment) { _, new in new }
    let stderr = Pipe()
    process.standardError = stderr
    process.standardOutput = stdout
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

  /// Serves the site's database from its spool directory, on a free port.
  static func serving(
    _ site: LocalService.Site, _ arguments: [String] = [], launcher: [String] = [],
    stdout: FileHandle = .nullDevice
  ) async throws -> ServerProcess {
    try await ServerProcess(
      [
        "serve", "--database", site.database.url, "--listen", "127.0.0.1:0",
        "--storage-listen", "127.0.0.2:0", "--rate-limit", "0",
        "--spool", site.spool, "--migrations-dir", repositoryRootPath + "/migrations/platform",
      ] + arguments,
      environment: [
        "COMPLIANCE_SERVER_TOKEN": "\(LocalService.token) \(LocalService.otherToken)",
        "SPOOL": site.spool,
      ], launcher: launcher, stdout: stdout)
  }

  /// - Throws: if it does not listen.
  func service(_ site: LocalService.Site) throws -> LocalService {
    LocalService(
      database: site.database, spool: site.spool, baseURL: try #require(baseURL, "\(log)"),
      gate: TestGate())
  }

  /// Sends the signal.
  func send(signal: Int32) { kill(process.processIdentifier, signal) }

  /// Sends the signal and returns the exit code; a signal's number if that is what ended it.
  func end(by signal: Int32) async -> Int32 {
    send(signal: signal)
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
