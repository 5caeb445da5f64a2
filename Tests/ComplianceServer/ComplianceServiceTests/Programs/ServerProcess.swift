import ComplianceService
import Foundation
import SystemPackage
import TestSupport
import Testing

/// The real program, as a separate process that can be killed.
final class ServerProcess {
  private let process: ChildProcess
  /// The program gets no SIGPIPE while this end of its stderr is open.
  private let stderr: FileHandle
  /// The server's URL, such as `http://127.0.0.1:40123`. Nil if the program ended without listening.
  let baseURL: String?
  /// The text that the program wrote to stderr until it listened or ended.
  let log: String

  /// Starts the program, and returns when it listens or has ended.
  ///
  /// - Parameter fileKibibytesMax: the file size limit. It has the effect of a full disk, and needs no root privileges.
  /// - Parameter launcher: a command that executes the program. The program's command line is appended to the command.
  /// - Parameter stdout: the file to which the program's stdout is written.
  init(
    _ arguments: [String], environment: [String: String] = [:], fileKibibytesMax: Int? = nil,
    launcher: [String] = [], stdout: FileDescriptor? = nil
  ) async throws {
    let limit =
      fileKibibytesMax.map { ["/bin/bash", "-c", #"ulimit -f "$0" && exec "$@""#, "\($0)"] } ?? []
    let command = launcher + limit + [Program.path("compliance-server")] + arguments
    let pipe = Pipe()
    process = try ChildProcess(
      command, environment: ProcessInfo.processInfo.environment.merging(environment) { $1 },
      stdout: stdout, stderr: FileDescriptor(rawValue: pipe.fileHandleForWriting.fileDescriptor))
    try pipe.fileHandleForWriting.close()
    stderr = pipe.fileHandleForReading
    log = await Self.read(stderr)
    baseURL = log.firstMatch(of: /listens on (http:\S+)/).map { String($0.1) }
  }

  /// Reads until the line with the listening address, or until the end.
  private static func read(_ file: FileHandle) async -> String {
    let descriptor = file.fileDescriptor
    return await blocking {
      var text = ""
      var byte: UInt8 = 0
      while Foundation.read(descriptor, &byte, 1) == 1 {
        text.unicodeScalars.append(Unicode.Scalar(byte))
        if byte == UInt8(ascii: "\n"), text.contains("listens on ") { break }
      }
      return text
    }
  }

  /// Returns the program's current and peak memory use.
  func memoryBytes() throws -> (now: Int, peak: Int) {
    let status = try String(
      contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)
    func bytes(_ name: String) throws -> Int {
      let line = try #require(status.split(separator: "\n").first { $0.hasPrefix(name + ":") })
      return try #require(
        line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) })
        * 1024
    }
    return (try bytes("VmRSS"), try bytes("VmHWM"))
  }

  var identifier: Int32 { process.processIdentifier }

  func send(signal: Int32) { process.send(signal: signal) }

  /// Sends the signal and returns the exit code, or the number of the signal that ended the program.
  func end(by signal: Int32) async -> Int32 {
    send(signal: signal)
    return await exitCode()
  }

  func exitCode() async -> Int32 {
    await process.ended()
  }
}

extension ServerProcess {
  /// Starts the program with a site's database and spool directory, on free ports.
  static func serving(
    _ site: LocalService.Site, _ profile: WireProfile = .native, _ arguments: [String] = [],
    fileKibibytesMax: Int? = nil, launcher: [String] = [], stdout: FileDescriptor? = nil
  ) async throws -> ServerProcess {
    try await ServerProcess(
      [
        "serve", "--database", site.database.url, "--listen", "127.0.0.1:0",
        "--storage-listen", "127.0.0.2:0", "--profile", profile.rawValue, "--rate-limit", "0",
        "--spool", site.spool, "--migrations-dir", repositoryRootPath + "/migrations/platform",
      ] + arguments,
      environment: [
        "COMPLIANCE_SERVER_TOKEN": "\(LocalService.token) \(LocalService.otherToken)",
        "SPOOL": site.spool,
      ], fileKibibytesMax: fileKibibytesMax, launcher: launcher, stdout: stdout)
  }
}

extension LocalService {
  /// Creates the service that a separate process runs. The process does not use the gate.
  init(site: Site, _ process: ServerProcess) throws {
    self.init(
      database: site.database, spool: site.spool,
      baseURL: try #require(process.baseURL, "\(process.log)"), gate: TestGate())
  }
}
