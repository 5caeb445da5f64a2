import ComplianceAPI
public import Definitions
internal import Failures
import Foundation
public import Logging
import Vocabulary
public import Warehouse

/// Checks what a run needs besides the database: the API, its token, and the folder of chunk files.
public struct EnvironmentCheck: Sendable {
  /// The result of a test request to the API.
  public enum APIOutcome: Sendable, Equatable {
    case responded
    /// The API or a proxy refuses the call, the host requires a client certificate, or the App's credits are used up.
    case refused
    /// The same request might succeed later, for example after a server error or a rate limit.
    case untried
    /// A permanent error.
    case faulty
  }

  let pipeline: Pipeline
  let logger: Logger

  public init(_ pipeline: Pipeline, logger: Logger) {
    (self.pipeline, self.logger) = (pipeline, logger)
  }

  // MARK: The API

  /// Requests the list of jobs of each type in the definition, which changes nothing. It makes at most two attempts for
  /// a type. After a rate limit, it makes no second attempt.
  public func api() async throws -> (outcome: APIOutcome, findings: [Finding]) {
    let api = pipeline.api
    let retry = RetryPolicy(
      attemptsMax: 2, delaySecondsFirst: 0.2, delaySecondsMax: 1, rateLimitSecondsMax: 0)
    do {
      let skew = try await api.withClient(retry: retry, logger: logger) { client in
        for type in JobType.allCases
        where pipeline.definition.datasets.contains(where: { $0.type == type }) {
          _ = try await client.jobs(type: type)
        }
        return await client.clockSkew
      }
      return (.responded, networkNotes() + [Self.finding(of: skew)].compactMap(\.self))
    } catch let error as APIError {
      let (outcome, findings) = Self.finding(of: error)
      return (outcome, findings + networkNotes())
    }
  }

  /// Notes on proxies and certificates that are used to reach the API.
  private func networkNotes() -> [Finding] {
    let network = pipeline.api.network
    var findings: [Finding] = []
    if let parts = URLComponents(string: pipeline.api.baseURL), let scheme = parts.scheme,
      let host = parts.host,
      let proxy = network.proxies.proxy(
        scheme: scheme, host: host.trimmingCharacters(in: ["[", "]"]),
        port: parts.port ?? (scheme == "http" ? 80 : 443))
    {
      findings.append(
        Finding(
          severity: .note, path: "api.proxy",
          message: "the API is reached through the proxy \(proxy) (\(proxy.origin))",
          remedy: "do nothing if this is intended; otherwise set api.proxy: none, or NO_PROXY"))
    }
    if !network.certificates.isEmpty {
      let names = network.certificates.map { "\($0.path) (\($0.origin))" }
      findings.append(
        Finding(
          severity: .note, path: "api.ca_file",
          message: """
            the certificates of \(names.joined(separator: ", ")) are trusted in addition to the system's
            """,
          remedy: "do nothing if this is intended; otherwise remove the setting"))
    }
    return findings
  }

  private static func finding(of skew: ClockSkew?) -> Finding? {
    guard let skew, skew.isSignificant else { return nil }
    return Finding(
      severity: .warning, path: "api", message: "\(skew)",
      remedy: "synchronize this machine's clock with NTP")
  }

  private static func finding(of error: APIError) -> (APIOutcome, [Finding]) {
    let summary = error.summary
    func finding(
      _ severity: Finding.Severity, _ path: String, _ message: String, _ remedy: String
    ) -> [Finding] {
      [Finding(severity: severity, path: path, message: message, remedy: remedy)]
    }
    switch error.kind {
    case .creditsDepleted:
      return (
        .refused, finding(.error, "api", "the API refuses all calls: \(summary)", error.remedy)
      )
    case .proxyRefused:
      return (
        .refused,
        finding(.error, "api.proxy", "the API cannot be reached: \(summary)", error.remedy)
      )
    case .clientCertificateRequired:
      return (
        .refused,
        finding(.error, "api.base_url", "the API cannot be reached: \(summary)", error.remedy)
      )
    case .wrongProxyProtocol:
      return (
        .faulty,
        finding(.error, "api.proxy", "the API cannot be reached: \(summary)", error.remedy)
      )
    case .untrusted, .unknownHost:
      return (
        .faulty,
        finding(
          .error, "api.base_url", "the API cannot be reached: \(summary)",
          "\(error.remedy); or use --offline to skip the API")
      )
    case .credentials, .urlRefused:
      return (
        .refused,
        finding(.error, "api.bearer_token", "the API refuses the token: \(summary)", error.remedy)
      )
    case .temporary, .rateLimited, .conflict, .capped:
      return (
        .untried,
        finding(
          .warning, "api.base_url", "the API and the token could not be tried: \(summary)",
          "try again later; or use --offline to skip the API")
      )
    case .invalidRequest, .jobRefused, .notFound, .redirected, .tooLarge, .unconfirmed,
      .hostNotAllowed, .incompleteResult, .noResult:
      return (
        .faulty,
        finding(
          .error, "api.base_url", "the API does not list its jobs: \(summary)",
          "check api.base_url; or use --offline to skip the API")
      )
    }
  }

  // MARK: The work directory

  /// Tries to create the folder, if it is missing, and to write a file into it. Then compares the free space with the
  /// size of one full chunk of each dataset. Removes what it has created.
  public func workDirectory(_ path: String) -> [Finding] {
    let missing = Self.missingFolders(of: path)
    defer { for folder in missing.reversed() { rmdir(folder) } }
    if let why = Self.reasonNotToWrite(path, making: missing) {
      return [
        Finding(
          severity: .error, path: "name",
          message: "chunk files cannot be written into the work directory \(path): \(why)",
          remedy: """
            correct its permissions, free disk space, or name another folder with --work-dir or LETHE_WORK_DIR
            """)
      ]
    }
    return freeSpaceFindings(in: path)
  }

  private static func reasonNotToWrite(_ path: String, making missing: [String]) -> String? {
    for folder in missing where mkdir(folder, 0o755) != 0 {
      return String(cString: strerror(errno))
    }
    let probe = "\(path)/check-\(UUID().uuidString)"
    let file = open(probe, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    guard file >= 0 else { return String(cString: strerror(errno)) }
    defer {
      close(file)
      unlink(probe)
    }
    let bytes = [UInt8](repeating: 0x0A, count: 4096)
    // If the disk is full, the error might be reported only by fsync.
    guard write(file, bytes, bytes.count) == bytes.count, fsync(file) == 0 else {
      return String(cString: strerror(errno))
    }
    return nil
  }

  private func freeSpaceFindings(in path: String) -> [Finding] {
    let datasets = pipeline.definition.datasets
    let needed = datasets.reduce(0) { $0 + $1.chunkBytesMax }
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: path)
    guard let free = (attributes?[.systemFreeSize] as? NSNumber)?.intValue, free < needed
    else { return [] }
    return [
      Finding(
        severity: .warning, path: "name",
        message: """
          the work directory \(path) has \(free) bytes free, but one full chunk of each of \
          \(datasets.count) datasets needs \(needed) bytes
          """,
        remedy: "free disk space, name another folder with --work-dir, or reduce chunk.bytes")
    ]
  }

  /// The missing folders of a path, from the outermost.
  private static func missingFolders(of path: String) -> [String] {
    var missing: [String] = []
    var folder = URL(fileURLWithPath: path).standardizedFileURL
    while folder.path != "/", !FileManager.default.fileExists(atPath: folder.path) {
      missing.insert(folder.path, at: 0)
      folder.deleteLastPathComponent()
    }
    return missing
  }
}
