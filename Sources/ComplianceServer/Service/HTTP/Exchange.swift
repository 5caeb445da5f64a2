internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import Synchronization

/// One request and its answer: what the handlers find out about it, for whoever writes headers, logs and
/// counts afterwards.
final class Exchange: Sendable {
  struct Facts: Sendable {
    var endpoint = Endpoint.unknown
    var app: AppID?
    var jobID: Int64?
    var rateLimit: RateLimits.Standing?
    /// The profile that a plan of faults gives the job, instead of the service's own.
    var profile: WireProfile?
    /// How much of the upload a plan of faults has stored; nil is all.
    var storedPart: Double?
    /// The names of the faults that were served.
    var faults: [String] = []
    var bytesReceived = 0
    var bytesSent = 0
  }

  private let state = Mutex(Facts())
  /// The connection that the request came on.
  private let channel: any Channel

  init(on channel: any Channel) {
    self.channel = channel
  }

  var remoteAddress: String? { channel.remoteAddress?.ipAddress }

  /// Ends the connection at once.
  @discardableResult
  func cut() -> ConnectionCut {
    channel.close(mode: .all, promise: nil)
    return ConnectionCut()
  }

  /// Ends the connection with the answer whose head was sent, without having announced it.
  func endsConnection() {
    channel.triggerUserOutboundEvent(ConnectionGuard.AnswerIsLast(), promise: nil)
  }

  /// Has the head of the next answer be another one.
  func changeHead(_ change: HeadChange) async {
    // On a connection that has ended there is no head any more.
    try? await channel.triggerUserOutboundEvent(ConnectionGuard.HeadIsChanged(change: change)).get()
  }

  /// How many of an upload's bytes are stored.
  func stored(_ bytes: Int64) -> Int64 {
    facts.storedPart.map { Int64(Double(bytes) * $0) } ?? bytes
  }

  /// Has the answer say that no request is left for so long.
  func exhaustRateLimit(for time: Duration) {
    note { facts in
      facts.rateLimit = RateLimits.Standing(
        limit: facts.rateLimit?.limit ?? 0, remaining: 0,
        resetEpochSeconds: epochSeconds() + Int(time.components.seconds), isExceeded: true)
    }
  }

  /// Has the client send the request's body, if it waits to be asked for it.
  func wantsBody() {
    channel.triggerUserOutboundEvent(ConnectionGuard.BodyIsWanted(), promise: nil)
  }

  var facts: Facts { state.withLock { $0 } }

  func note(_ change: (inout Facts) -> Void) {
    state.withLock { change(&$0) }
  }
}

/// A request that an App was admitted with.
struct Call: Sendable {
  let request: Request
  let app: AppID
  let exchange: Exchange
}

extension Request {
  /// Whether a body follows, be it an empty one. Without either header there is none, and whoever meant to
  /// send one has lost it (RFC 9112, section 6.3).
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
