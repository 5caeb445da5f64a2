internal import FaultPlans
internal import Hummingbird
internal import HummingbirdCore
internal import Logging
internal import NIOCore
internal import NIOHTTP1

/// A handler between the request parser and the request handlers. It refuses malformed requests and closes the
/// connections of clients that are too slow. It closes a connection in a way that lets the client read the response.
final class ConnectionLimiter: ChannelDuplexHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  /// An event: the request handler starts to read the body. Then a client that sent `Expect: 100-continue` gets
  /// `100 Continue`.
  struct BodyRequested: Sendable {}

  /// An event: the connection closes after the current response.
  struct CloseAfterResponse: Sendable {}

  /// An event: the head of the next response gets this change.
  struct HeadChangeRequested: Sendable {
    let change: HeadChange
  }

  /// Why the server refuses a request, or closes the connection of a slow client.
  enum Refusal: String, Sendable {
    case slowHead = "slow_head"
    case slowReader = "slow_reader"
    case headTooLarge = "head_too_large"
    case malformed
    /// HTTP/1.1 requires exactly one `Host`. If there are two, a proxy and a server might use different ones.
    case host
  }

  /// The values that all connections of a listen address share.
  struct Shared: Sendable {
    let limits: ComplianceServer.ConnectionLimits
    let metrics: Metrics
    /// Builds the response to a refused request. Such a request reaches no handler.
    let response: @Sendable (Problem) -> PlainResponse
  }

  private enum CloseState {
    case open
    /// The connection closes after the current response.
    case afterResponse
    /// The current responses are sent, then a response that refuses the request.
    case refusal(Refusal)
    /// The last response is written. Further input is read and dropped.
    case lingering
  }

  private let shared: Shared
  private let headRewriter: ResponseHeadRewriter
  private var headChange: HeadChange?
  private var pace: ConnectionPace
  private var closeState = CloseState.open
  /// Whether further input is dropped and not passed to the handlers.
  private var ignoresInput = false
  private var check: Scheduled<Void>?
  /// Whether the client waits for `100 Continue` before it sends the body.
  private var awaitsContinue = false

  init(_ shared: Shared, _ headRewriter: ResponseHeadRewriter) {
    self.shared = shared
    self.headRewriter = headRewriter
    pace = ConnectionPace(shared.limits, connected: .now())
  }

  // MARK: The connection

  func handlerAdded(context: ChannelHandlerContext) {
    if context.channel.isActive { connected(context) }
  }

  func channelActive(context: ChannelHandlerContext) {
    connected(context)
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    check?.cancel()
    shared.metrics.connectionEnded()
    // Without this error, the request handler would accept a part of the body as the complete body.
    if pace.isReceiving { abortBody(.incompleteBody, context) }
    context.fireChannelInactive()
  }

  private func connected(_ context: ChannelHandlerContext) {
    shared.metrics.connectionBegan()
    pace = ConnectionPace(shared.limits, connected: .now())
    checkLater(context)
  }

  private func checkLater(_ context: ChannelHandlerContext) {
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    check = context.eventLoop.scheduleTask(in: ConnectionPace.checkInterval(shared.limits)) {
      let (limiter, context) = bound.value
      limiter.checkPace(context)
    }
  }

  private func checkPace(_ context: ChannelHandlerContext) {
    guard context.channel.isActive else { return }
    let buffered = try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)
    switch pace.verdict(at: .now(), bufferedBytes: buffered ?? 0) {
    case .keepOpen: break
    case .slowHead: refuse(.slowHead, context)
    case .slowBody: abortBody(.tooSlow, context)
    case .slowReader:
      shared.metrics.refused(.slowReader)
      return context.close(promise: nil)
    case .idle, .restTooLong: return context.close(promise: nil)
    }
    checkLater(context)
  }

  // MARK: Requests

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      guard !ignoresInput else { return }
      guard Self.hasValidHost(head) else { return refuse(.host, context) }
      pace.headReceived()
      if !head.isKeepAlive { closeState = .afterResponse }
      awaitsContinue = head.headers.first(name: "expect")?.lowercased() == "100-continue"
    case .body(let bytes):
      awaitsContinue = false
      pace.bodyReceived(bytes.readableBytes)
      if case .restTooLong = pace.verdict(at: .now(), bufferedBytes: 0) {
        return context.close(promise: nil)
      }
    case .end:
      guard !ignoresInput else { return }
      pace.requestReceived(at: .now())
      if case .afterResponse = closeState { ignoresInput = true }
      return context.fireChannelRead(data)
    }
    if !ignoresInput { context.fireChannelRead(data) }
  }

  private static func hasValidHost(_ head: HTTPRequestHead) -> Bool {
    let hosts = head.headers["host"]
    guard let host = hosts.first else {
      return (head.version.major, head.version.minor) < (1, 1)
    }
    guard hosts.count == 1, !host.contains(where: { " \t,/\\@?#".contains($0) }) else {
      return false
    }
    // If the target is an absolute URL, its host takes precedence (RFC 9112, section 3.2.2).
    return head.uri.hasPrefix("/") || !head.uri.contains("://")
      || PublicURL.authority(of: head.uri).lowercased() == host.lowercased()
  }

  func read(context: ChannelHandlerContext) {
    pace.readRequested(at: .now())
    context.read()
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    pace.readCompleted(at: .now())
    context.fireChannelReadComplete()
    // While the connection lingers, no handler calls `read`.
    if case .lingering = closeState { context.read() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    context.fireUserInboundEventTriggered(event)
    if case .lingering = closeState, let event = event as? ChannelEvent, event == .inputClosed {
      context.close(promise: nil)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case HTTPParserError.headerOverflow where !pace.isReceiving: refuse(.headTooLarge, context)
    case is HTTPParserError where !pace.isReceiving: refuse(.malformed, context)
    case ByteToMessageDecoderError.dataReceivedInErrorState(_, let bytes):
      pace.bodyReceived(bytes.readableBytes)
    // The body ended too early: its framing is wrong, or the client closed the connection.
    case _ where pace.isReceiving: abortBody(.incompleteBody, context)
    default: context.fireErrorCaught(error)
    }
  }

  private func abortBody(_ problem: Problem, _ context: ChannelHandlerContext) {
    guard !ignoresInput else { return }
    ignoresInput = true
    guard pace.openRequests > 0 else { return linger(context) }
    // The handler that reads the body writes the response, with all usual headers.
    closeState = .afterResponse
    context.fireErrorCaught(problem)
  }

  private func refuse(_ refusal: Refusal, _ context: ChannelHandlerContext) {
    guard !ignoresInput else { return }
    ignoresInput = true
    closeState = .refusal(refusal)
    if pace.openRequests == 0 { writeRefusal(refusal, context) }
  }

  private func writeRefusal(_ refusal: Refusal, _ context: ChannelHandlerContext) {
    shared.metrics.refused(refusal)
    let response = shared.response(refusal.problem)
    var head = HTTPResponseHead(
      version: .http1_1, status: .init(statusCode: response.status.code),
      headers: HTTPHeaders(response.headers.map { ($0.name.rawName, $0.value) }))
    head.headers.replaceOrAdd(name: "connection", value: "close")
    head.headers.replaceOrAdd(name: "content-length", value: "\(response.bytes.readableBytes)")
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(.byteBuffer(response.bytes))), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    linger(context)
  }

  // MARK: Responses

  func write(
    context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?
  ) {
    if case .lingering = closeState {
      promise?.fail(ChannelError.ioOnClosedChannel)
      return
    }
    switch unwrapOutboundIn(data) {
    case .head(var head):
      // The client might still send the body, so the server cannot know where the next request begins.
      if awaitsContinue, case .open = closeState { closeState = .afterResponse }
      if let change = headChange {
        headChange = nil
        switch change.framing {
        case .close:
          // The encoder chunks a body without a length, except in HTTP/1.0.
          head.version = .http1_0
          head.headers.remove(name: "content-length")
          if case .open = closeState { closeState = .afterResponse }
        case .chunked: head.headers.remove(name: "content-length")
        case nil: break
        }
        headRewriter.change(change)
      }
      if case .afterResponse = closeState {
        head.headers.replaceOrAdd(name: "connection", value: "close")
      }
      context.write(wrapOutboundOut(.head(head)), promise: promise)
    case .body(let body):
      pace.bodySent(body.readableBytes)
      context.write(data, promise: promise)
    case .end:
      context.write(data, promise: promise)
      pace.responseSent(at: .now())
      guard pace.openRequests == 0 else { return }
      switch closeState {
      case .open, .lingering: break
      case .afterResponse:
        context.flush()
        linger(context)
      case .refusal(let refusal): writeRefusal(refusal, context)
      }
    }
  }

  func triggerUserOutboundEvent(
    context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?
  ) {
    switch event {
    case is CloseAfterResponse:
      if case .open = closeState { closeState = .afterResponse }
      promise?.succeed()
    case let event as HeadChangeRequested:
      headChange = headChange ?? HeadChange()
      headChange?.add(event.change)
      promise?.succeed()
    case is BodyRequested:
      if awaitsContinue, case .open = closeState, pace.openRequests == 1 {
        awaitsContinue = false
        let head = HTTPResponseHead(version: .http1_1, status: .continue)
        context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
      }
      promise?.succeed()
    default: context.triggerUserOutboundEvent(event, promise: promise)
    }
  }

  /// Closes the output side, then reads until the client closes the connection, within the limits `restBytesMax` and
  /// `restTime`. If a server closes a connection while input is unread, the client might not get the response.
  private func linger(_ context: ChannelHandlerContext) {
    if case .lingering = closeState { return }
    ignoresInput = true
    closeState = .lingering
    pace.ended(at: .now())
    context.close(mode: .output, promise: nil)
    context.read()
  }
}

extension ConnectionLimiter.Refusal {
  fileprivate var problem: Problem {
    switch self {
    case .slowHead, .slowReader:
      Problem(kind: .requestTimeout, detail: "The request did not arrive completely in time.")
    case .headTooLarge:
      Problem(kind: .headerFieldsTooLarge, detail: "The request line and headers are too large.")
    case .host:
      .invalid(
        "Host", nil, "A request needs one Host header: a name or an address, and optionally a port."
      )
    case .malformed: .invalid(nil, nil, "This is not a valid HTTP/1.1 request.")
    }
  }
}

/// HTTP/1.1 with a `ConnectionLimiter` on each connection.
struct LimitedHTTPChannel: ServerChildChannel {
  private let http: HTTP1Channel
  private let shared: ConnectionLimiter.Shared

  init(_ shared: ConnectionLimiter.Shared, _ responder: @escaping HTTPChannelHandler.Responder) {
    self.shared = shared
    http = HTTP1Channel(
      responder: responder,
      configuration: .init(
        idleTimeout: nil,
        httpDecoderConfiguration: .init(
          maxHeaderFieldSize: shared.limits.headBytesMax,
          maxHeaderListSize: shared.limits.headBytesMax,
          maxHeaderFieldCount: shared.limits.headFieldsMax)))
  }

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<HTTP1Channel.Value> {
    http.setup(channel: channel, logger: logger).flatMapThrowing { [shared] value in
      let pipeline = channel.pipeline.syncOperations
      let parser = try pipeline.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)
      let headRewriter = ResponseHeadRewriter()
      try pipeline.addHandler(ConnectionLimiter(shared, headRewriter), position: .after(parser))
      // In the first position, the rewriter gets the bytes that the response encoder has written.
      try pipeline.addHandler(headRewriter, position: .first)
      return value
    }
  }

  func handle(value: HTTP1Channel.Value, logger: Logger) async {
    await http.handle(value: value, logger: logger)
  }
}
