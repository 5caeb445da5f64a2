internal import Foundation
public import SystemPackage

/// A server program that others wrote, such as nginx.
public enum ForeignServer {
  /// Why it does not serve.
  public struct Failed: Error, CustomStringConvertible {
    public let description: String
  }

  /// Becomes the program, which is killed by a line on stdin. So it is when stdin ends: it does not outlive tests that are
  /// killed themselves.
  private static let launcher = """
    exec 3<&0
    { read -r <&3; kill -KILL $$; } &
    exec 3<&- "$@" </dev/null
    """

  /// Runs a program for the length of `body`, as the current user, from when it takes connections.
  ///
  /// - Parameters:
  ///   - command: the program's path and its arguments. It has to stay in the foreground.
  ///   - scratch: a directory for what it writes to stdout and stderr.
  /// - Throws: what `body` throws; `Failed` with what it wrote, if it ends before it takes connections.
  public static func running<R: Sendable>(
    _ command: [String], environment: [String: String] = [:], at place: LoopbackPlace,
    scratch: FilePath, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> R
  ) async throws -> R {
    let output = scratch.appending("output-\(place)").string
    guard FileManager.default.isExecutableFile(atPath: command[0]),
      FileManager.default.createFile(atPath: output, contents: nil),
      let file = FileHandle(forWritingAtPath: output)
    else {
      throw Failed(description: "\(command[0]) is missing: make setup installs it")
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
      while !place.answers {
        try Task.checkCancellation()
        guard process.isRunning else {
          let said = try? String(contentsOfFile: output, encoding: .utf8)
          throw Failed(
            description: "\(command) ended with \(process.terminationStatus):\n\(said ?? "")")
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
