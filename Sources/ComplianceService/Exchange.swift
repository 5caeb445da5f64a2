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

struct ServiceContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  let exchange: Exchange

  init(source: ApplicationRequestContextSource) {
    coreContext = .init(source: source)
    exchange = Exchange(on: source.channel)
  }
}
