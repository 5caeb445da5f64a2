internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import Synchronization

/// The outermost middleware. It adds the headers that all responses have. It counts and logs each response after the
/// response is written.
struct ServingMiddleware: RouterMiddleware {
  typealias Context = ServiceContext

  let metrics: Metrics
  let accessLog: AccessLog?
  /// The headers of every response.
  let headers: HTTPFields

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    let began = ContinuousClock.now
    metrics.requestBegan()
    let exchange = context.exchange
    let remote = exchange.remoteAddress
    let requestEnd = RequestEnd { status in
      let facts = exchange.facts
      let seconds = (ContinuousClock.now - began) / .seconds(1)
      metrics.requestEnded(facts, status: status, seconds: seconds)
      accessLog?.write(request, facts, status: status, seconds: seconds, remote: remote)
    }
    var response: Response
    do {
      response = try await next(request, context)
    } catch {
      requestEnd.happened(status: 0)
      throw error
    }
    response.headers.append(contentsOf: headers)
    if let quota = exchange.facts.rateLimit {
      response.headers[.rateLimit] = "\(quota.limit)"
      response.headers[.rateLimitRemaining] = "\(quota.remaining)"
      response.headers[.rateLimitReset] = "\(quota.resetEpochSeconds)"
    }
    let status = response.status.code
    let body = response.body
    response.body = ResponseBody(contentLength: body.contentLength) { writer in
      defer { requestEnd.happened(status: status) }
      try await body.write(CountingWriter(writer: writer, exchange: exchange))
    }
    return response
  }
}

/// Reports the end of a request exactly once, even if the response cannot be sent.
private final class RequestEnd: Sendable {
  /// The status of a request if the client disconnected before the response could be sent.
  private static let clientDisconnected = 499

  private let report: @Sendable (_ status: Int) -> Void
  private let isOver = Atomic(false)

  init(_ report: @escaping @Sendable (_ status: Int) -> Void) {
    self.report = report
  }

  func happened(status: Int) {
    if isOver.exchange(true, ordering: .relaxed) == false { report(status) }
  }

  /// If the head could not be sent, the body is never written. Then only `deinit` can report the end.
  deinit { happened(status: Self.clientDisconnected) }
}

extension HTTPField.Name {
  fileprivate static let rateLimit = Self("x-rate-limit-limit")!
  fileprivate static let rateLimitRemaining = Self("x-rate-limit-remaining")!
  fileprivate static let rateLimitReset = Self("x-rate-limit-reset")!
}

private struct CountingWriter: ResponseBodyWriter {
  var writer: any ResponseBodyWriter
  let exchange: Exchange

  mutating func write(_ buffer: ByteBuffer) async throws {
    try await writer.write(buffer)
    exchange.note { $0.bytesSent += buffer.readableBytes }
  }

  consuming func finish(_ trailingHeaders: HTTPFields?) async throws {
    try await writer.finish(trailingHeaders)
  }
}

/// The access log: a line of JSON for each request.
struct AccessLog: Sendable {
  let writeLine: @Sendable (String) -> Void

  /// A line of the log. `path` excludes the query, because the query can contain a URL's token.
  private struct Line: Encodable {
    let time: String
    let remote: String?
    let method: String
    let path: String
    let endpoint: String
    let status: Int
    let app: String?
    let job: String?
    let received_bytes: Int
    let sent_bytes: Int
    let seconds: Double
    let faults: [String]?
  }

  func write(
    _ request: Request, _ facts: Exchange.Facts, status: Int, seconds: Double, remote: String?
  ) {
    let line = Line(
      time: Date.now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)),
      remote: remote,
      method: request.method.rawValue, path: request.uri.path,
      endpoint: facts.endpoint.rawValue, status: status, app: facts.app?.short,
      job: facts.jobID.map { "\($0)" }, received_bytes: facts.bytesReceived,
      sent_bytes: facts.bytesSent, seconds: (seconds * 1e6).rounded() / 1e6,
      faults: facts.faults.isEmpty ? nil : facts.faults)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let json = try? encoder.encode(line) else { return }
    writeLine(String(decoding: json, as: UTF8.self))
  }
}
