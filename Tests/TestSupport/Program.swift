internal import Foundation

/// One of the package's programs as a separate process, which can be killed.
public final class Program: Sendable {
  public struct Ending: Sendable {
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

  public let processIdentifier: Int32
  private let ending: Task<Ending, Never>

  /// Starts a program that was built with the tests.
  /// - Parameter variables: variables to remove from the program's environment.
  public init(
    _ name: String, _ arguments: [String], environment: [String: String] = [:],
    without variables: [String] = []
  ) throws {
    let process = Process()
    process.executableURL = URL(filePath: ProcessInfo.processInfo.arguments[0])
      .deletingLastPathComponent().appending(path: name)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
      .filter { !variables.contains($0.key) }
    // Use files, because the program would block on a full pipe.
    let stdout = try Self.scratchFile()
    let stderr = try Self.scratchFile()
    process.standardOutput = stdout
    process.standardError = stderr
    process.standardInput = FileHandle.nullDevice
    let (ended, end) = AsyncStream.makeStream(of: Int32.self)
    process.terminationHandler = { process in
      end.yield(process.terminationStatus)
      end.finish()
    }
    try process.run()
    processIdentifier = process.processIdentifier
    ending = Task {
      var code: Int32 = -1
      for await status in ended { code = status }
      return Ending(code: code, stdout: Self.text(of: stdout), stderr: Self.text(of: stderr))
    }
  }

  /// Waits for the program's end.
  public func ended() async -> Ending {
    await ending.value
  }

  public func send(signal: Int32) {
    kill(processIdentifier, signal)
  }

  /// Runs a program to its end.
  public static func run(
    _ name: String, _ arguments: [String], environment: [String: String] = [:],
    without variables: [String] = []
  ) async throws -> Ending {
    try await Program(name, arguments, environment: environment, without: variables).ended()
  }

  /// Returns a file without a name. The system deletes the file when its last descriptor is closed.
  private static func scratchFile() throws -> FileHandle {
    let url = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    guard FileManager.default.createFile(atPath: url.path, contents: nil) else {
      throw CocoaError(.fileWriteUnknown)
    }
    let file = try FileHandle(forUpdating: url)
    try FileManager.default.removeItem(at: url)
    return file
  }

  private static func text(of file: FileHandle) -> String {
    try? file.seek(toOffset: 0)
    return String(decoding: (try? file.readToEnd()) ?? Data(), as: UTF8.self)
  }
}
