internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import Synchronization

/// One request and its answer. Handlers note facts here; the middleware uses them for headers, the access log
/// and metrics.
final class Exchange: Sendable {
  struct Facts: Sendable {
    var endpoint = Endpoint.unknown
    var app: AppID?
    var jobID: Int64?
    var rateLimit: RateLimits.Quota?
    /// The profile that a fault plan gives the job, instead of the service's default.
    var profile: WireProfile?
    /// The fraction of the upload that a fault plan stores; nil means all.
    var storedPart: Double?
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

  /// Closes the connection after the current answer. The answer's head, already sent, did not announce this.
  func closeAfterAnswer() {
    channel.triggerUserOutboundEvent(ConnectionLimiter.CloseAfterAnswer(), promise: nil)
  }

  /// Changes the head of the next answer.
  func changeHead(_ change: HeadChange) async {
    // Fails if the connection is closed: then no head will be sent.
    try? await channel.triggerUserOutboundEvent(
      ConnectionLimiter.HeadChangeRequested(change: change)
    ).get()
  }

  /// How many of an upload's bytes are stored.
  func stored(_ bytes: Int64) -> Int64 {
    facts.storedPart.map { Int64(Double(bytes) * $0) } ?? bytes
  }

  /// Makes the answer's headers say that no request is left until `time` has passed.
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
  /// Whether a body follows, even an empty one. Without either header there is no body, and a client that meant
  /// to send one has lost it (RFC 9112, section 6.3).
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
