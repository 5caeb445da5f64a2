internal import Foundation
public import SystemPackage

/// An external server program, such as nginx.
public enum ExternalServer {
  /// The error that the program did not start.
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
  /// - Throws: errors of `body`, and `Failed` with the program's output if the program ends before it accepts connections.
  public static func running<R: Sendable>(
    _ command: [String], environment: [String: String] = [:], at address: LoopbackAddress,
    scratch: FilePath, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> R
  ) async throws -> R {
    let output = scratch.appending("output-\(address)").string
    guard FileManager.default.isExecutableFile(atPath: command[0]),
      FileManager.default.createFile(atPath: output, contents: nil),
      let file = FileHandle(forWritingAtPath: output)
    else {
      throw Failed(description: "\(command[0]) is missing: run make setup")
    }
    let process = Process()
    process.executableURL = URL(filePath: "/bin/bash")
    process.arguments = ["-c", launcher, "bash"] + command
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let stdin = Pipe()
    process.standardInput = stdin
    process.standardOutput = file
    process.standardError = file
    let (ended, end) = AsyncStream.makeStream(of: Never.self)
    process.terminationHandler = { _ in end.finish() }
    try process.run()

    func stop() async {
      try? stdin.fileHandleForWriting.write(contentsOf: Data("\n".utf8))
      try? stdin.fileHandleForWriting.close()
      for await _ in ended {}
    }
    do {
      while !address.acceptsConnections {
        try Task.checkCancellation()
        guard process.isRunning else {
          let text = try? String(contentsOfFile: output, encoding: .utf8)
          throw Failed(
            description: "\(command) ended with \(process.terminationStatus):\n\(text ?? "")")
        }
        await Task.yield()
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
