import AsyncHTTPClient
public import Foundation
public import Logging
import NIOCore
import NIOHTTP1
public import Vocabulary
import WorkFiles

/// A client of X's Batch Compliance endpoints. Its requests follow the API's description exactly. It accepts responses
/// that differ from the description if their meaning is clear.
///
/// Source: the X docs' Batch Compliance guide and the OpenAPI description of the API, version 2.168.
///
/// Calls that fail temporarily are repeated with backoff. But `createJob`, and `cancelJob` with `undoing`, are not
/// repeated after a temporary error. They throw `.temporary`.
///
/// The token is sent only to the API's own scheme, host and port, and no redirect is followed.
public struct ComplianceClient: Sendable {
  let transport: Transport
  let baseURL: String
  let token: BearerToken
  let allowedHosts: [String]
  let retry: RetryPolicy
  let logger: Logger
  let budgets: RateBudgets
  let retries: RetryBudget
  let clock: ServerClock
  let profile: ProfileInUse
  let permit: (any CallPermit)?

  /// The largest JSON response. Most responses have a few kilobytes. A list of jobs of several years has more.
  static let responseBytesMax = 16 << 20

  /// Runs `body` with a client, and closes the client's connections afterwards.
  ///
  /// - Parameters:
  ///   - baseURL: without a slash at its end.
  ///   - allowedHosts: the hosts that uploads may go to and downloads may come from.
  ///   - permit: is asked directly before each call that changes something at the API, except `cancelJob` with
  ///     `undoing`; nil permits all calls.
  /// - Throws: what `body` throws; `APIError` `.untrusted` if the configured certificates cannot be read.
  public static func withClient<R: Sendable>(
    baseURL: String, token: BearerToken, allowedHosts: [String],
    profile: UploadProfile = .auto, network: NetworkSettings = NetworkSettings(),
    permit: (any CallPermit)? = nil, retry: RetryPolicy = RetryPolicy(), logger: Logger,
    _ body: @Sendable (ComplianceClient) async throws -> R
  ) async throws -> R {
    let transport = try Transport(network)
    let client = ComplianceClient(
      transport: transport, baseURL: baseURL, token: token, allowedHosts: allowedHosts,
      retry: retry, logger: logger, budgets: RateBudgets(logger: logger),
      retries: RetryBudget(retry),
      clock: ServerClock(logger: logger), profile: ProfileInUse(profile), permit: permit)
    do {
      let value = try await body(client)
      try await transport.shutdown()
      return value
    } catch {
      try? await transport.shutdown()
      throw error
    }
  }

  // MARK: JSON endpoints

  /// Creates a job. The call is not repeated if its response is lost, because the job might exist. After `.temporary`
  /// and after `.jobRefused` (the response contains no usable job), the caller must look for the job's name in the list
  /// of jobs.
  /// - Parameter name: up to 64 characters.
  public func createJob(type: JobType, name: String) async throws -> APIJob {
    let operation = "create job \(name)"
    let asksForParts = await profile.asksForParts
    let body = try JSONEncoder().encode(
      CreateBody(type: type.rawValue, name: name, resumable: asksForParts ? true : nil))
    let job: APIJob
    do {
      let response: JobResponse = try await json(
        .POST, "/2/compliance/jobs", body: body, endpoint: .create, operation: operation,
        isRepeatable: false)
      job = try self.job(response, operation)
    } catch let error as APIError where error.status == 400 && asksForParts {
      guard await profile.refused() else { throw error }
      logger.notice(
        "\(operation): the API no longer supports uploads in parts, creating the job without them")
      return try await createJob(type: type, name: name)
    }
    if let url = job.uploadURL, let origin = Origin(url.exposed) {
      await profile.seen(isStorageHost: origin != Origin(baseURL))
    }
    guard job.hasUsableID else {
      throw APIError(
        kind: .jobRefused, operation: operation, message: "the job in the response has no usable ID"
      )
    }
    return job
  }

  private struct CreateBody: Encodable {
    let type: String
    let name: String
    /// Whether the upload may be resumable. Nil leaves the key out, because X's own upload host does not support it.
    let resumable: Bool?
  }

  /// Returns the jobs of a type, in the order in which the API lists them.
  public func jobs(type: JobType) async throws -> [APIJob] {
    let operation = "list jobs of type \(type.rawValue)"
    let response: JobsResponse = try await json(
      .GET, "/2/compliance/jobs?type=\(type.rawValue)", body: nil, endpoint: .list,
      operation: operation, isRepeatable: true)
    if response.data == nil, (response.meta?.result_count ?? 0) != 0 {
      throw APIError(
        kind: .temporary, operation: operation,
        message: "the list of jobs is empty, but its result_count is not 0")
    }
    let entries = response.data ?? []
    let usable = entries.compactMap { $0.value?.job(hiding: [token.exposed]) }
      .filter(\.hasUsableID)
    if usable.count < entries.count {
      logger.warning(
        """
        \(operation): ignoring \(entries.count - usable.count) unreadable entries of \(entries.count)
          remedy: none if this is rare; otherwise, check that base_url leads to the API
        """)
    }
    return usable
  }

  public func job(id: String) async throws -> APIJob {
    let operation = "get job \(id)"
    let response: JobResponse = try await json(
      .GET, "/2/compliance/jobs/\(id)", body: nil, endpoint: .get, operation: operation,
      isRepeatable: true)
    let job = try job(response, operation, orThrow: .jobRefused)
    guard job.id == id else {
      throw APIError(
        kind: .jobRefused, operation: operation, message: "the response is about another job")
    }
    return job
  }

  /// Cancels a job that has not finished. The job's status becomes `failed`, and its slot becomes free.
  /// - Returns: the job after the call; nil if the response does not contain it.
  ///
  /// - Parameter undoing: whether this undoes a creation by a process that has lost its lease. Then the permit is not
  ///   asked, and the call is not repeated after a temporary error.
  @discardableResult
  public func cancelJob(id: String, undoing: Bool = false) async throws -> APIJob? {
    let operation = "cancel job \(id)"
    let response: JobResponse = try await json(
      .DELETE, "/2/compliance/jobs/\(id)", body: nil, endpoint: .cancel, operation: operation,
      isRepeatable: !undoing, needsPermit: !undoing)
    return response.data?.job(hiding: [token.exposed])
  }

  /// The time by the API's clock, from the `Date` of its responses. URLs and jobs expire by that clock.
  public var now: Date { get async { await clock.now } }

  /// The difference between the API's clock and this machine's clock; nil until a response has a `Date`.
  public var clockSkew: ClockSkew? { get async { await clock.skew } }

  private func job(
    _ response: JobResponse, _ operation: String, orThrow kind: APIError.Kind = .temporary
  ) throws -> APIJob {
    guard let data = response.data else {
      throw APIError(kind: kind, operation: operation, message: "the response has no data")
    }
    return data.job(hiding: [token.exposed])
  }

  private func json<Body: Decodable & Sendable>(
    _ method: HTTPMethod, _ path: String, body: Data?, endpoint: Endpoint, operation: String,
    isRepeatable: Bool, needsPermit: Bool = true
  ) async throws -> Body {
    try await repeated(
      endpoint, operation: operation, isRepeatable: isRepeatable, needsPermit: needsPermit
    ) {
      var request = HTTPClientRequest(url: baseURL + path)
      request.method = method
      request.headers.add(name: "Authorization", value: "Bearer \(token.exposed)")
      request.headers.add(name: "Accept", value: "application/json")
      if let body {
        request.headers.add(name: "Content-Type", value: "application/json")
        request.body = .bytes(body)
      }
      let response = try await transport.execute(
        request, seconds: transport.settings.answerSeconds)
      await note(response, of: endpoint)
      let bytes = try await self.body(of: response)
      guard StatusTable.isSuccess(Int(response.status.code), of: endpoint) else {
        throw failure(response, body: bytes, endpoint: endpoint, operation: operation)
      }
      if let decoded = try? JSONDecoder().decode(Body.self, from: Data(bytes)) {
        let problem = Problem(body: bytes, secrets: [token.exposed])
        guard problem.isErrorList else { return decoded }
        throw failure(problem, problem.status, endpoint: endpoint, operation: operation)
      }
      let problem = Problem(body: bytes, secrets: [token.exposed])
      if problem.isErrorList {
        throw failure(problem, problem.status, endpoint: endpoint, operation: operation)
      }
      // The job is cancelled. The caller does not need the response's body.
      if endpoint == .cancel, let empty = JobResponse(data: nil) as? Body { return empty }
      throw APIError(
        kind: .temporary, status: Int(response.status.code), operation: operation,
        message: "the response cannot be read")
    }
  }

  /// Returns the delay before the caller repeats a call that the client itself does not repeat.
  /// - Parameter failures: the number of failed calls; 1 after the first failure.
  public func retryDelaySeconds(after failures: Int) -> Double {
    retry.delaySeconds(after: failures)
  }

  // MARK: Shared by all calls

  func body(of response: HTTPClientResponse) async throws -> [UInt8] {
    var buffer = try await response.body.collect(upTo: Self.responseBytesMax)
    return buffer.readBytes(length: buffer.readableBytes) ?? []
  }

  /// Records the server's time and rate limits from a response's headers.
  /// - Parameter isOwnOrigin: whether the API sent the response. A storage host can have another clock.
  func note(
    _ response: HTTPClientResponse, of endpoint: Endpoint, isOwnOrigin: Bool = true
  ) async {
    if isOwnOrigin { await clock.note(response.headers) }
    await budgets.note(
      response.headers, status: Int(response.status.code), of: endpoint, serverNow: clock.now)
  }

  /// Returns the error for a response with a status that is not a success.
  func failure(
    _ response: HTTPClientResponse, body: [UInt8], endpoint: Endpoint, operation: String
  ) -> APIError {
    let status = Int(response.status.code)
    let problem = Problem(body: body, secrets: [token.exposed])
    var error = failure(problem, status, endpoint: endpoint, operation: operation)
    if (300..<400).contains(status) {
      error = APIError(
        kind: error.kind, status: status, operation: operation,
        message: "a redirect to \(target(of: response)), which is not followed")
    }
    return error
  }

  /// Returns the error for a problem.
  /// - Parameter status: nil if the problem has no status.
  func failure(
    _ problem: Problem, _ status: Int?, endpoint: Endpoint, operation: String
  ) -> APIError {
    APIError(
      kind: StatusTable.kind(status, problem.cause, for: endpoint), status: status,
      operation: operation, message: problem.message)
  }

  /// Returns the scheme, the host and the path of a redirect's target. The query is left out, because it might contain
  /// a signature.
  private func target(of response: HTTPClientResponse) -> String {
    guard let location = response.headers.first(name: "location") else {
      return "an unknown target"
    }
    let shown = location.prefix { $0 != "?" && $0 != "#" }
    return String(shown).withoutSecrets([token.exposed], lengthMax: 200)
  }

  /// Repeats a call until it succeeds, fails permanently or has used up its retries (`RetryPolicy`). A call that the
  /// rate limit refuses is not counted as an attempt, because the API has not processed it.
  ///
  /// - Parameter hasProgressed: whether the failed attempt has brought the call forward, so that the next attempt
  ///   continues from there. Then the count of failed attempts starts again with this one.
  func repeated<R: Sendable>(
    _ endpoint: Endpoint, operation: String, isRepeatable: Bool, needsPermit: Bool = true,
    hasProgressed: () -> Bool = { false }, _ call: () async throws -> R
  ) async throws -> R {
    var (failures, failureSeconds) = (0, 0.0)
    var (refusals, requiredSeconds) = (0, 0.0)
    while true {
      let secondsBefore = await budgets.secondsToWait(for: endpoint)
      guard secondsBefore <= retry.rateLimitSecondsMax else {
        throw APIError(
          kind: .rateLimited, operation: operation,
          message: "the rate limit allows no call for \(Int(secondsBefore.rounded(.up))) s")
      }
      try await wait(secondsBefore, for: "the rate limit", operation)
      if endpoint.hasEffect, needsPermit { try await permit?.requireCallsAllowed() }
      let began = ContinuousClock.now
      let error: APIError
      do {
        let value = try await call()
        await retries.succeeded()
        return value
      } catch let apiError as APIError {
        error = apiError
      } catch let failure as NoResponse {
        error = APIError(kind: failure.kind, operation: operation, message: failure.message)
      } catch let error as WorkFileError {
        throw error
      } catch let transportError {
        try Task.checkCancellation()
        error = APIError(
          kind: .temporary, operation: operation,
          message: "no response (\("\(transportError)".withoutSecrets([token.exposed])))")
      }
      switch error.kind {
      case .rateLimited:
        // The delay grows each time. Otherwise the calls would not slow down if each response allowed a retry at once.
        refusals += 1
        let seconds = max(
          await budgets.secondsToWaitAfterRefusal(of: endpoint),
          min(retry.delaySeconds(after: refusals), retry.delaySecondsMax))
        requiredSeconds += seconds
        guard requiredSeconds <= retry.rateLimitSecondsMax else { throw error }
        try await wait(seconds, for: "the rate limit", operation)
      case .temporary where isRepeatable:
        if hasProgressed() { (failures, failureSeconds) = (0, 0) }
        failures += 1
        if !endpoint.carriesBytes { failureSeconds += (ContinuousClock.now - began) / .seconds(1) }
        let delay = retry.delaySeconds(after: failures)
        guard failures < retry.attemptsMax, failureSeconds + delay <= retry.secondsMax else {
          throw error
        }
        let required = await budgets.secondsOfRetryAfter(endpoint)
        if required > delay {
          requiredSeconds += required
          guard requiredSeconds <= retry.rateLimitSecondsMax else { throw error }
        } else {
          failureSeconds += delay
        }
        try await wait(
          max(delay, required, await retries.secondsToWait()), for: error.message, operation)
      case .temporary, .invalidRequest, .credentials, .creditsDepleted, .capped, .redirected,
        .proxyRefused, .wrongProxyProtocol, .clientCertificateRequired, .untrusted, .unknownHost,
        .urlRefused,
        .notFound, .jobRefused, .conflict, .tooLarge, .unconfirmed, .hostNotAllowed,
        .incompleteResult, .noResult:
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

/// Decides whether this process may change something at the API.
public protocol CallPermit: Sendable {
  /// Throws an error if the call must not be sent now.
  func requireCallsAllowed() async throws
}
