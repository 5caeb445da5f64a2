internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import Synchronization

/// One request and its response. Handlers note facts here. The middleware uses the facts for headers, the access log
/// and metrics.
final class Exchange: Sendable {
  struct Facts: Sendable {
    var endpoint = Endpoint.unknown
    var app: AppID?
    var jobID: Int64?
    var rateLimit: RateLimits.Quota?
    /// The profile that a fault plan gives the job, instead of the service's default.
    var profile: WireProfile?
    /// The fraction of the upload that is stored because of a fault plan; nil means all.
    var storedFraction: Double?
    /// The names of the faults that were served.
    var faults: [String] = []
    var bytesReceived = 0
    var bytesSent = 0
  }

  private let state = Mutex(Facts())
  /// The connection of the request.
  private let channel: any Channel

  init(on channel: any Channel) {
    self.channel = channel
  }

  var remoteAddress: String? { channel.remoteAddress?.ipAddress }

  /// Closes the connection at once.
  @discardableResult
  func cut() -> ConnectionCut {
    channel.close(mode: .all, promise: nil)
    return ConnectionCut()
  }

  /// Closes the connection after the current response. Call this after the head of the response is sent. Otherwise the
  /// head would contain `Connection: close`.
  func closeAfterResponse() {
    channel.triggerUserOutboundEvent(ConnectionLimiter.CloseAfterResponse(), promise: nil)
  }

  /// Changes the head of the next response.
  func changeHead(_ change: HeadChange) async {
    // This fails if the connection is closed. Then no head will be sent, so the error does not matter.
    try? await channel.triggerUserOutboundEvent(
      ConnectionLimiter.HeadChangeRequested(change: change)
    ).get()
  }

  /// Returns how many of an upload's bytes are stored: fewer than `bytes` only because of a fault plan.
  func stored(_ bytes: Int64) -> Int64 {
    facts.storedFraction.map { Int64(Double(bytes) * $0) } ?? bytes
  }

  /// Sets the rate limit headers of the response: no request is left until `time` has passed.
  func exhaustRateLimit(for time: Duration) {
    note { facts in
      facts.rateLimit = RateLimits.Quota(
        limit: facts.rateLimit?.limit ?? 0, remaining: 0,
        resetEpochSeconds: epochSeconds() + Int(time.components.seconds), isExceeded: true)
    }
  }

  /// Sends `100 Continue` if the client waits for it before it sends the body.
  func requestBody() {
    channel.triggerUserOutboundEvent(ConnectionLimiter.BodyRequested(), promise: nil)
  }

  var facts: Facts { state.withLock { $0 } }

  func note(_ change: (inout Facts) -> Void) {
    state.withLock { change(&$0) }
  }
}

/// A request of an authenticated App.
struct Call: Sendable {
  let request: Request
  let app: AppID
  let exchange: Exchange
}

extension Request {
  /// Whether a body follows, even an empty one. A request with neither header has no body (RFC 9112, section 6.3).
  var announcesBody: Bool {
    headers[.contentLength] != nil || headers[.transferEncoding] != nil
  }
}

struct ServiceContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  let exchange: Exchange

  init(source: ApplicationRequestContextSource) {
    coreContext = .init(source: source)
    exchange = Exchange(on: source.channel)
  }
}
