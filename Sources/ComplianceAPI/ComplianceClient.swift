import AsyncHTTPClient
import Foundation
public import Logging
import NIOCore
import NIOHTTP1
public import Vocabulary

/// X's Batch Compliance endpoints: lenient in what is read, exact in what is sent.
///
/// Source: the X docs' Batch Compliance guide and the OpenAPI description of the API, version 2.168.
///
/// Calls that can be repeated are, with backoff; creating a job cannot, and says so by `.temporary`.
/// The token goes to the API's own scheme, host and port and nowhere else, and no redirect is followed.
public struct ComplianceClient: Sendable {
  let http: HTTPClient
  let baseURL: String
  let token: BearerToken
  let allowedHosts: [String]
  let retry: RetryPolicy
  let logger: Logger
  let budgets = RateBudgets()

  /// An answer to a JSON call is a few kilobytes; a listing of years of jobs some more.
  private static let answerBytesMax = 16 << 20
  private static let answerSecondsMax: Int64 = 120

  /// Runs `body` with a client whose connections live as long.
  ///
  /// - Parameters:
  ///   - baseURL: without a slash at its end.
  ///   - allowedHosts: where bytes may go to and come from.
  public static func withClient<R: Sendable>(
    baseURL: String, token: BearerToken, allowedHosts: [String],
    retry: RetryPolicy = RetryPolicy(), logger: Logger,
    _ body: @Sendable (ComplianceClient) async throws -> R
  ) async throws -> R {
    var configuration = HTTPClient.Configuration(
      redirectConfiguration: .disallow,
      timeout: .init(connect: .seconds(15), read: .seconds(90), write: .seconds(90)))
    // Without this a refused connection takes the whole connect timeout to say so.
    configuration.connectionPool.retryConnectionEstablishment = false
    let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    let client = ComplianceClient(
      http: http, baseURL: baseURL, token: token, allowedHosts: allowedHosts, retry: retry,
      logger: logger)
    do {
      let value = try await body(client)
      try await http.shutdown()
      return value
    } catch {
      try? await http.shutdown()
      throw error
    }
  }

  // MARK: JSON endpoints

  /// Creates a job. Not repeated when its answer is lost: the job may exist. `.temporary` then means
  /// "look in the listing for its name".
  /// - Parameter name: up to 64 characters.
  public func createJob(type: JobType, name: String) async throws -> APIJob {
    let operation = "create job \(name)"
    let body = try JSONEncoder().encode(["type": type.rawValue, "name": name])
    let answer: JobAnswer = try await json(
      .POST, "/2/compliance/jobs", body: body, endpoint: .create, operation: operation,
      isRepeatable: false)
    return try job(answer, operation)
  }

  /// The jobs of a type, newest first.
  public func jobs(type: JobType) async throws -> [APIJob] {
    let operation = "list jobs of type \(type.rawValue)"
    let answer: JobsAnswer = try await json(
      .GET, "/2/compliance/jobs?type=\(type.rawValue)", body: nil, endpoint: .list,
      operation: operation, isRepeatable: true)
    if answer.data == nil, (answer.meta?.result_count ?? 0) != 0 {
      throw APIError(
        kind: .temporary, operation: operation, message: "the listing counts jobs but has none")
    }
    return (answer.data ?? []).map { $0.job(hiding: [token.exposed]) }
  }

  public func job(id: String) async throws -> APIJob {
    let operation = "get job \(id)"
    let answer: JobAnswer = try await json(
      .GET, "/2/compliance/jobs/\(id)", body: nil, endpoint: .get, operation: operation,
      isRepeatable: true)
    return try job(answer, operation)
  }

  /// Ends a job that has not finished; its status becomes `failed` and its slot is free.
  @discardableResult
  public func cancelJob(id: String) async throws -> APIJob {
    let operation = "cancel job \(id)"
    let answer: JobAnswer = try await json(
      .DELETE, "/2/compliance/jobs/\(id)", body: nil, endpoint: .cancel, operation: operation,
      isRepeatable: true)
    return try job(answer, operation)
  }

  private func job(_ answer: JobAnswer, _ operation: String) throws -> APIJob {
    guard let data = answer.data else {
      throw APIError(kind: .temporary, operation: operation, message: "the answer has no data")
    }
    return data.job(hiding: [token.exposed])
  }

  private func json<Answer: Decodable & Sendable>(
    _ method: HTTPMethod, _ path: String, body: Data?, endpoint: Endpoint, operation: String,
    isRepeatable: Bool
  ) async throws -> Answer {
    try await repeated(endpoint, operation: operation, isRepeatable: isRepeatable) {
      var request = HTTPClientRequest(url: baseURL + path)
      request.method = method
      request.headers.add(name: "Authorization", value: "Bearer \(token.exposed)")
      request.headers.add(name: "Accept", value: "application/json")
      if let body {
        request.headers.add(name: "Content-Type", value: "application/json")
        request.body = .bytes(body)
      }
      let response = try await http.execute(
        request, timeout: .seconds(Self.answerSecondsMax), logger: nil)
      await budgets.note(response.headers, of: endpoint)
      let bytes = try await self.body(of: response)
      guard response.status == .ok || response.status == .created else {
        throw failure(
          Int(response.status.code), body: bytes, endpoint: endpoint, operation: operation)
      }
      if let answer = try? JSONDecoder().decode(Answer.self, from: Data(bytes)) {
        let problem = Problem(body: bytes, secrets: [token.exposed])
        guard problem.isErrorList else { return answer }
        throw failure(
          problem.status ?? 400, body: bytes, endpoint: endpoint, operation: operation)
      }
      throw APIError(
        kind: .temporary, status: Int(response.status.code), operation: operation,
        message: "the answer cannot be read")
    }
  }

  /// How long to wait before a call that only its caller can repeat is made again.
  /// - Parameter failures: how many there were; the first is 1.
  public func retryDelaySeconds(after failures: Int) -> Double {
    retry.delaySeconds(after: failures)
  }

  // MARK: What every call shares

  func body(of response: HTTPClientResponse) async throws -> [UInt8] {
    var buffer = try await response.body.collect(upTo: Self.answerBytesMax)
    return buffer.readBytes(length: buffer.readableBytes) ?? []
  }

  func failure(
    _ status: Int, body: [UInt8], endpoint: Endpoint, operation: String
  ) -> APIError {
    let problem = Problem(body: body, secrets: [token.exposed])
    let kind: APIError.Kind =
      switch status {
      case 401, 403: endpoint.carriesBytes ? .urlRefused : .credentials
      case 404, 410: .notFound
      case 409: .conflict
      case 413: .tooLarge
      case 429: .rateLimited
      case 408, 500...599: .temporary
      default: .invalidRequest
      }
    return APIError(kind: kind, status: status, operation: operation, message: problem.message)
  }

  /// Runs a call until it succeeds, fails for good or has used its tries up. A rate limit is waited
  /// for and is not counted as a try: the API did not do anything.
  func repeated<R: Sendable>(
    _ endpoint: Endpoint, operation: String, isRepeatable: Bool,
    _ call: () async throws -> R
  ) async throws -> R {
    var failures = 0
    var rateLimitSeconds = 0.0
    while true {
      try await wait(await budgets.secondsToWait(for: endpoint), for: "the rate limit", operation)
      let error: APIError
      do {
        return try await call()
      } catch let apiError as APIError {
        error = apiError
      } catch let transportError {
        try Task.checkCancellation()
        error = APIError(
          kind: .temporary, operation: operation,
          message: "no answer (\("\(transportError)".withoutSecrets([token.exposed])))")
      }
      switch error.kind {
      case .rateLimited:
        let seconds = await budgets.secondsToWaitAfterRefusal(of: endpoint)
        rateLimitSeconds += seconds
        guard rateLimitSeconds <= retry.rateLimitSecondsMax else { throw error }
        try await wait(seconds, for: "the rate limit", operation)
      case .temporary where isRepeatable:
        failures += 1
        guard failures < retry.attemptsMax else { throw error }
        try await wait(
          retry.delaySeconds(after: failures), for: error.message, operation)
      case .temporary, .invalidRequest, .credentials, .urlRefused, .notFound, .conflict,
        .tooLarge, .hostNotAllowed, .incompleteResult, .noResult, .localFile:
        throw error
      }
    }
  }

  private func wait(_ seconds: Double, for what: String, _ operation: String) async throws {
    guard seconds > 0 else { return }
    logger.notice(
      "\(operation): waiting \(String(format: "%.1f", seconds)) s for \(what)")
    try await Task.sleep(for: .seconds(seconds))
  }
}
