import AsyncHTTPClient
import ComplianceService
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import PostgreSQL
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// A live server on a free port, with its own database and spool directory.
struct LocalService {
  let database: TestDatabase
  let spool: String
  let baseURL: String
  let gate: TestGate<ServicePoint>

  static let token = "first-app"
  static let otherToken = "second-app"

  /// A database and a spool directory. A server can be started with them and interrupted any number of times.
  struct Site {
    let database: TestDatabase
    let spool: String
    var configure: @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in }

    /// Runs a server while `body` runs. If `body` throws, the server stops at once.
    func serving<R: Sendable>(_ body: (LocalService) async throws -> R) async throws -> R {
      let gate = TestGate<ServicePoint>()
      var configuration = ComplianceServer.Configuration(
        database: database.connectionString, tokens: [AppToken(token), AppToken(otherToken)],
        spool: FilePath(spool), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      configuration.gate = { await gate.pass($0) }
      configuration.sweepInterval = .milliseconds(20)
      // A health check must not end too early because the test machine is busy.
      configuration.healthTimeout = .seconds(60)
      configure(&configuration)
      return try await ComplianceServer.withRunning(configuration) { address in
        try await body(
          LocalService(database: database, spool: spool, baseURL: address.url, gate: gate))
      }
    }

    /// Runs a server until `body` returns, and then interrupts the server.
    func interrupting(_ body: (LocalService) async throws -> Void) async throws {
      struct Interruption: Error {}
      do {
        try await serving {
          try await body($0)
          throw Interruption()
        }
      } catch is Interruption {}
    }

    /// The names of the files in the spool directory, without the spool's own ID file.
    var spooledFiles: [String] {
      get throws {
        try FileManager.default.contentsOfDirectory(atPath: spool).sorted()
          .filter { $0 != "spool.id" }
      }
    }
  }

  static func withSite<R: Sendable>(_ body: (Site) async throws -> R) async throws -> R {
    try await withTestDatabase(.platform) { database in
      let spool = FileManager.default.temporaryDirectory.appending(path: database.name).path()
      defer { try? FileManager.default.removeItem(atPath: spool) }
      return try await body(Site(database: database, spool: spool))
    }
  }

  static func run<R: Sendable>(
    _ configure: @escaping @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in },
    _ body: (LocalService) async throws -> R
  ) async throws -> R {
    try await withSite { site in
      var site = site
      site.configure = configure
      return try await site.serving(body)
    }
  }
}

/// The service's response to a request, with the complete body.
struct ServiceResponse {
  let status: Int
  let headers: HTTPHeaders
  let body: [UInt8]

  var text: String { String(decoding: body, as: UTF8.self) }

  /// The body as a JSON object. Empty if the body is not a JSON object.
  var object: [String: Any] {
    (try? JSONSerialization.jsonObject(with: Data(body))) as? [String: Any] ?? [:]
  }

  func decoded<T: Decodable>(_ type: T.Type) throws -> T {
    try JSONDecoder().decode(type, from: Data(body))
  }

  /// Returns the job in a successful response.
  func job(_ location: SourceLocation = #_sourceLocation) throws -> WireJob {
    try #require(status == 200, "\(status) \(text)", sourceLocation: location)
    return try decoded(WireJob.Response.self).data
  }

  /// Returns the problem in an error response. Checks the members that every problem has.
  func problem(_ location: SourceLocation = #_sourceLocation) throws -> WireProblem {
    #expect(
      headers.first(name: "content-type") == "application/problem+json", sourceLocation: location)
    let problem = try decoded(WireProblem.self)
    #expect(problem.status == status, sourceLocation: location)
    #expect(
      problem.type.hasPrefix("https://api.x.com/2/problems/"), "\(problem.type)",
      sourceLocation: location)
    #expect(!problem.title.isEmpty && !problem.detail.isEmpty, sourceLocation: location)
    return problem
  }
}

/// The members of a job in a response, with the API's names.
struct WireJob: Decodable, Equatable {
  struct Response: Decodable {
    let data: WireJob
  }

  struct List: Decodable {
    struct Meta: Decodable {
      let result_count: Int
    }

    let data: [WireJob]?
    let meta: Meta
  }

  let id: String
  let type: String
  let status: String
  let name: String?
  let error: String?
  let created_at: String
  let upload_url: String
  let upload_expires_at: String
  let download_url: String
  let download_expires_at: String
}

/// The members of a problem document, which is the body of an error response.
struct WireProblem: Decodable {
  let type: String
  let title: String
  let detail: String
  let status: Int
  let parameter: String?
  let value: String?
  let resource_id: String?

  /// The last part of the problem's type URL, such as `conflict`.
  var kind: Substring { type.split(separator: "/").last ?? "" }
}

extension LocalService {
  static let jobsPath = "/2/compliance/jobs"

  func send(
    _ method: HTTPMethod, _ url: String, token: String? = token, contentType: String? = nil,
    body: HTTPClientRequest.Body? = nil
  ) async throws -> ServiceResponse {
    var request = HTTPClientRequest(url: url.hasPrefix("/") ? baseURL + url : url)
    request.method = method
    if let token { request.headers.add(name: "authorization", value: "Bearer \(token)") }
    if let contentType { request.headers.add(name: "content-type", value: contentType) }
    request.body = body
    return try await send(request)
  }

  func send(_ request: HTTPClientRequest) async throws -> ServiceResponse {
    let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
    let bytes = try await response.body.collect(upTo: 64 * 1024 * 1024)
    return ServiceResponse(
      status: Int(response.status.code), headers: response.headers,
      body: Array(bytes.readableBytesView))
  }

  func get(_ path: String, token: String? = token) async throws -> ServiceResponse {
    try await send(.GET, path, token: token)
  }

  func post(_ json: String, query: String = "", token: String? = token) async throws
    -> ServiceResponse
  {
    try await send(
      .POST, Self.jobsPath + query, token: token, contentType: "application/json",
      body: .bytes(ByteBuffer(string: json)))
  }

  func create(_ type: String = "tweets", token: String? = token) async throws -> WireJob {
    try await post(#"{"type":"\#(type)"}"#, token: token).job()
  }

  func put(
    _ text: String, to url: String, contentType: String? = "text/plain", token: String? = token
  ) async throws -> ServiceResponse {
    try await send(
      .PUT, url, token: token, contentType: contentType, body: .bytes(ByteBuffer(string: text)))
  }

  func job(_ id: String, token: String? = token) async throws -> WireJob {
    try await get("\(Self.jobsPath)/\(id)", token: token).job()
  }

  /// Uploads the text, waits until the job has been processed, and returns the job.
  func finish(_ job: WireJob, uploading text: String) async throws -> WireJob {
    _ = try await put(text, to: job.upload_url).job()
    try await gate.reached { $0 == .processed(jobID: job.id) }
    return try await self.job(job.id)
  }

  /// Returns the result lines for a submission of this type, without empty lines.
  func lines(_ type: String, _ text: String) async throws -> [String] {
    let job = try await finish(create(type), uploading: text)
    #expect(job.status == "complete")
    let result = try await get(job.download_url)
    #expect(result.status == 200)
    #expect(result.body.isEmpty || result.body.last == UInt8(ascii: "\n"))
    return result.text.split(separator: "\n").map(String.init)
  }

  /// Creates a job, uploads the text, and returns the job after it has been processed.
  func uploaded(_ type: String, _ text: String) async throws -> WireJob {
    let job = try await create(type)
    let response = try await put(text, to: job.upload_url, token: token(for: job.upload_url))
    try #require(response.status == 200, "\(response.status) \(response.text)")
    try await gate.reached { $0 == .processed(jobID: job.id) }
    return try await self.job(job.id)
  }

  /// Returns the result lines for a submission of this type, including empty lines.
  func resultLines(_ type: String, _ text: String) async throws -> [String] {
    let job = try await uploaded(type, text)
    try #require(job.status == "complete", "\(job)")
    let result = try await send(.GET, job.download_url, token: token(for: job.download_url))
    try #require(result.status == 200, "\(result.text)")
    let lines = result.text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.last == "")
    return lines.dropLast().map(String.init)
  }

  /// Returns the token for a URL. Nil for the storage host, which accepts no token.
  private func token(for url: String) -> String? { url.hasPrefix(baseURL) ? Self.token : nil }

  func execute(_ sql: String) async throws {
    try await database.withConnection { try await $0.runScript(SQL(trusted: sql)) }
  }
}

/// Collects lines from any thread.
final class LineCollector: Sendable {
  private let lines = Mutex<[String]>([])

  var all: [String] { lines.withLock { $0 } }

  @Sendable func add(_ line: String) { lines.withLock { $0.append(line) } }
}

/// Returns a logger that collects the messages of a level and of all higher levels.
func collectingLogger(_ lines: LineCollector, _ level: Logger.Level = .warning) -> Logger {
  Logger(label: "test") { _ in CollectingHandler(lines: lines, logLevel: level) }
}

private struct CollectingHandler: LogHandler {
  let lines: LineCollector
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) { lines.add("\(event.message)") }
}
