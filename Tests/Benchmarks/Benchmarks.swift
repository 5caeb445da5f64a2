import ComplianceAPI
import Foundation
import Logging
import Results
import SystemPackage
import Vocabulary

/// Runs a part of the program alone, so that scripts/bench can compare it with another program. Prints the seconds of
/// that part, without the start of the process.
@main enum Benchmarks {
  static func main() async throws {
    let arguments = CommandLine.arguments.dropFirst().map(\.description)
    switch (arguments.first, arguments.dropFirst().map { $0 }) {
    case ("scan", let rest) where rest.count == 1:
      try scan(rest[0])
    case ("upload", let rest) where rest.count == 2:
      try await upload(FilePath(rest[0]), to: rest[1])
    case ("download", let rest) where rest.count == 3:
      try await download(job: rest[0], to: FilePath(rest[1]), from: rest[2])
    default:
      FileHandle.standardError.write(
        Data("usage: benchmarks scan FILE | upload FILE API | download JOB FILE API\n".utf8))
      exit(2)
    }
  }

  private static func report(_ duration: Duration, _ rest: String) {
    print(duration / .seconds(1), rest)
  }

  /// Scans a result file.
  private static func scan(_ path: String) throws {
    let scanner = LineScanner(type: .tweets)
    var (events, sum) = (0, Int64(0))
    let seconds = try ContinuousClock().measure {
      var lines = try ResultLines(path: path)
      while try lines.forEachLineOfNextBlock({ line in
        guard case .event(let event) = scanner.scan(line.bytes) else { return }
        events += 1
        // Uses each value, so that the compiler keeps its computation.
        sum &+= event.id &+ Int64(event.reason.rawValue.utf8.count)
        sum &+= event.createdAt?.microsecondsSince2000 ?? 0
        sum &+= event.redactedAt?.microsecondsSince2000 ?? 0
      }) {}
    }
    report(seconds, "\(events) \(sum)")
  }

  private static func withClient<R: Sendable>(
    _ api: String, _ body: @Sendable (ComplianceClient) async throws -> R
  ) async throws -> R {
    try await ComplianceClient.withClient(
      baseURL: api,
      token: BearerToken(ProcessInfo.processInfo.environment["X_BEARER_TOKEN"] ?? ""),
      allowedHosts: [], logger: Logger(label: "bench"), body)
  }

  /// Uploads a file to a new job, and prints the job's ID, too.
  private static func upload(_ file: FilePath, to api: String) async throws {
    let bytes = try FileManager.default.attributesOfItem(atPath: file.string)[.size] as? Int ?? 0
    try await withClient(api) { client in
      let job = try await client.createJob(type: .tweets, name: "bench")
      guard let url = job.uploadURL else { fatalError("the job has no URL") }
      let clock = ContinuousClock()
      let start = clock.now
      try await client.upload(file: file, bytes: bytes, to: url, job: job.id)
      report(clock.now - start, job.id)
    }
  }

  private static func download(job id: String, to file: FilePath, from api: String) async throws {
    try await withClient(api) { client in
      guard let url = try await client.job(id: id).downloadURL else {
        fatalError("the job has no result")
      }
      let clock = ContinuousClock()
      let start = clock.now
      let download = try await client.download(from: url, to: file, bytesMax: .max, job: id)
      report(clock.now - start, "\(download.bytes)")
    }
  }
}
