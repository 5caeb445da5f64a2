internal import Foundation
public import SystemPackage

/// An external server program, such as nginx.
public enum ExternalServer {
  /// The error that the program is missing or did not start.
  public struct Failed: Error, CustomStringConvertible {
    public let description: String
  }

  /// A script that executes the program, and kills it when a line arrives on stdin or stdin ends. So the program also
  /// ends if the tests are killed.
  private static let launcher = """
    exec 3<&0
    { read -r <&3; kill -KILL $$; } &
    exec 3<&- "$@" </dev/null
    """

  /// Runs a program as the current user, and runs `body` when the program accepts connections.
  ///
  /// - Parameters:
  ///   - command: the program's path and its arguments. The program must stay in the foreground.
  ///   - scratch: a directory for the program's stdout and stderr.
  /// - Throws: errors of `body`; `Failed` if the program is missing, or if it ends before it accepts connections;
  ///   `CancellationError`.
  public static func running<R: Sendable>(
    _ command: [String], environment: [String: String] = [:], at address: LoopbackAddress,
    scratch: FilePath, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> R
  ) async throws -> R {
    guard FileManager.default.isExecutableFile(atPath: command[0]) else {
      throw Failed(description: "\(command[0]) is missing: run make setup")
    }
    let output = scratch.appending("output-\(address)")
    let file = try FileDescriptor.open(
      output, .writeOnly, options: [.create, .truncate, .closeOnExec],
      permissions: .ownerReadWrite)
    defer { try? file.close() }
    let stdin = Pipe()
    let process = try ChildProcess(
      ["/bin/bash", "-c", launcher, "bash"] + command,
      environment: ProcessInfo.processInfo.environment.merging(environment) { $1 },
      stdin: FileDescriptor(rawValue: stdin.fileHandleForReading.fileDescriptor), stdout: file,
      stderr: file)
    try stdin.fileHandleForReading.close()

    func stop() async {
      try? stdin.fileHandleForWriting.write(contentsOf: Data("\n".utf8))
      try? stdin.fileHandleForWriting.close()
      _ = await process.ended()
    }
    do {
      while !address.acceptsConnections {
        if let code = process.exitCode {
          let text = try? String(contentsOfFile: output.string, encoding: .utf8)
          throw Failed(description: "\(command) ended with \(code):\n\(text ?? "")")
        }
        try await pollingPause()
      }
      let value = try await body()
      await stop()
      return value
    } catch {
      await stop()
      throw error
    }
  }
}
