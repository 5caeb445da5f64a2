internal import FaultPlans
internal import Hummingbird
internal import HummingbirdCore
internal import Logging
internal import NIOCore
internal import NIOHTTP1

/// Stands between the parser of requests and whoever answers them: refuses what is no request, ends
/// connections whose clients are too slow, and ends a connection such that its client finds the answer.
final class ConnectionGuard: ChannelDuplexHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  /// The handler is going to read the body: a client with `Expect: 100-continue` waits to hear that.
  struct BodyIsWanted: Sendable {}

  /// The connection ends with the answer that is under way.
  struct AnswerIsLast: Sendable {}

  /// The head of the answer that is written next is to be another one.
  struct HeadIsChanged: Sendable {
    let change: HeadChange
  }

  /// Why a connection ends without a request that could be answered.
  enum Refusal: String, Sendable {
    case slowHead = "slow_head"
    case slowReader = "slow_reader"
    case headTooLarge = "head_too_large"
    case malformed
    /// HTTP/1.1 asks for one `Host`, and with two of them proxies and servers go by different ones.
    case host
  }

  /// What the guards of all connections share.
  struct House: Sendable {
    let limits: ComplianceServer.ConnectionLimits
    let metrics: Metrics
    /// The answer to what is no request, which no handler sees.
    let answer: @Sendable (Problem) -> PlainAnswer
  }

  private enum Ending {
    case open
    /// The answer that is under way is the last one.
    case afterAnswer
    /// After the answers that are under way, one of the guard's own.
    case refusal(Refusal)
    /// The last answer is written. What still comes is thrown away.
    case lingering
  }

  private let house: House
  private let wire: HeadOnWire
  private var headChange: HeadChange?
  private var pace: ConnectionPace
  private var ending = Ending.open
  /// Nothing more of what comes is for the handlers.
  private var isDeaf = false
  private var check: Scheduled<Void>?
  /// The client holds its body back until it is told to send it.
  private var awaitsContinue = false

  init(_ house: House, _ wire: HeadOnWire) {
    self.house = house
    self.wire = wire
    pace = ConnectionPace(house.limits, connected: .now())
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
    house.metrics.connectionEnded()
    // Without this, what came of a body would look like all of it.
    if pace.isReceiving { giveUpOnBody(.brokenOff, context) }
    context.fireChannelInactive()
  }

  private func connected(_ context: ChannelHandlerContext) {
    house.metrics.connectionBegan()
    pace = ConnectionPace(house.limits, connected: .now())
    checkLater(context)
  }

  private func checkLater(_ context: ChannelHandlerContext) {
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    check = context.eventLoop.scheduleTask(in: ConnectionPace.checkTime(house.limits)) {
      let (guardian, context) = bound.value
      guardian.checkPace(context)
    }
  }

  private func checkPace(_ context: ChannelHandlerContext) {
    guard context.channel.isActive else { return }
    let buffered = try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)
    switch pace.verdict(at: .now(), bufferedBytes: buffered ?? 0) {
    case .goOn: break
    case .slowHead: refuse(.slowHead, context)
    case .slowBody: giveUpOnBody(.tooSlow, context)
    case .slowReader:
      house.metrics.refused(.slowReader)
      return context.close(promise: nil)
    case .idle, .restTooLong: return context.close(promise: nil)
    }
    checkLater(context)
  }

  // MARK: Requests

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      guard !isDeaf else { return }
      guard Self.hasItsHost(head) else { return refuse(.host, context) }
      pace.headReceived()
      if !head.isKeepAlive { ending = .afterAnswer }
      awaitsContinue = head.headers.first(name: "expect")?.lowercased() == "100-continue"
    case .body(let bytes):
      awaitsContinue = false
      pace.bodyReceived(bytes.readableBytes)
      if case .restTooLong = pace.verdict(at: .now(), bufferedBytes: 0) {
        return context.close(promise: nil)
      }
    case .end:
      guard !isDeaf else { return }
      pace.requestReceived(at: .now())
      if case .afterAnswer = ending { isDeaf = true }
      return context.fireChannelRead(data)
    }
    if !isDeaf { context.fireChannelRead(data) }
  }

  private static func hasItsHost(_ head: HTTPRequestHead) -> Bool {
    let hosts = head.headers["host"]
    guard let host = hosts.first else {
      return (head.version.major, head.version.minor) < (1, 1)
    }
    guard hosts.count == 1, !host.contains(where: { " \t,/\\@?#".contains($0) }) else {
      return false
    }
    // Where the target is a whole URL, that one's host would count (RFC 9112, section 3.2.2).
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
    // Nobody else reads any more.
    if case .lingering = ending { context.read() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    context.fireUserInboundEventTriggered(event)
    if case .lingering = ending, let event = event as? ChannelEvent, event == .inputClosed {
      context.close(promise: nil)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case HTTPParserError.headerOverflow where !pace.isReceiving: refuse(.headTooLarge, context)
    case is HTTPParserError where !pace.isReceiving: refuse(.malformed, context)
    case ByteToMessageDecoderError.dataReceivedInErrorState(_, let bytes):
      pace.bodyReceived(bytes.readableBytes)
    // The client breaks its body off: by its form, or with the connection.
    case _ where pace.isReceiving: giveUpOnBody(.brokenOff, context)
    default: context.fireErrorCaught(error)
    }
  }

  private func giveUpOnBody(_ problem: Problem, _ context: ChannelHandlerContext) {
    guard !isDeaf else { return }
    isDeaf = true
    guard pace.unanswered > 0 else { return linger(context) }
    // Whoever reads the body answers for it, with all that an answer has.
    ending = .afterAnswer
    context.fireErrorCaught(problem)
  }

  private func refuse(_ refusal: Refusal, _ context: ChannelHandlerContext) {
    guard !isDeaf else { return }
    isDeaf = true
    ending = .refusal(refusal)
    if pace.unanswered == 0 { writeRefusal(refusal, context) }
  }

  private func writeRefusal(_ refusal: Refusal, _ context: ChannelHandlerContext) {
    house.metrics.refused(refusal)
    let answer = house.answer(refusal.problem)
    var head = HTTPResponseHead(
      version: .http1_1, status: .init(statusCode: answer.status.code),
      headers: HTTPHeaders(answer.headers.map { ($0.name.rawName, $0.value) }))
    head.headers.replaceOrAdd(name: "connection", value: "close")
    head.headers.replaceOrAdd(name: "content-length", value: "\(answer.bytes.readableBytes)")
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(.byteBuffer(answer.bytes))), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    linger(context)
  }

  // MARK: Answers

  func write(
    context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?
  ) {
    if case .lingering = ending {
      promise?.fail(ChannelError.ioOnClosedChannel)
      return
    }
    switch unwrapOutboundIn(data) {
    case .head(var head):
      // Whether the body still comes nobody knows, and so not where the next request would begin.
      if awaitsContinue, case .open = ending { ending = .afterAnswer }
      if let change = headChange {
        headChange = nil
        switch change.framing {
        case .close:
          // The encoder chunks what has no length, except in HTTP/1.0.
          head.version = .http1_0
          head.headers.remove(name: "content-length")
          if case .open = ending { ending = .afterAnswer }
        case .chunked: head.headers.remove(name: "content-length")
        case nil: break
        }
        wire.change(change)
      }
      if case .afterAnswer = ending {
        head.headers.replaceOrAdd(name: "connection", value: "close")
      }
      context.write(wrapOutboundOut(.head(head)), promise: promise)
    case .body(let body):
      pace.bodySent(body.readableBytes)
      context.write(data, promise: promise)
    case .end:
      context.write(data, promise: promise)
      pace.answered(at: .now())
      guard pace.unanswered == 0 else { return }
      switch ending {
      case .open, .lingering: break
      case .afterAnswer:
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
    case is AnswerIsLast:
      if case .open = ending { ending = .afterAnswer }
      promise?.succeed()
    case let event as HeadIsChanged:
      headChange = headChange ?? HeadChange()
      headChange?.add(event.change)
      promise?.succeed()
    case is BodyIsWanted:
      if awaitsContinue, case .open = ending, pace.unanswered == 1 {
        awaitsContinue = false
        let head = HTTPResponseHead(version: .http1_1, status: .continue)
        context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
      }
      promise?.succeed()
    default: context.triggerUserOutboundEvent(event, promise: promise)
    }
  }

  /// Says that nothing more will be sent, and waits for the client to end the connection: to close it
  /// while bytes of the client are unread would take the answer away from it.
  private func linger(_ context: ChannelHandlerContext) {
    if case .lingering = ending { return }
    isDeaf = true
    ending = .lingering
    pace.ended(at: .now())
    context.close(mode: .output, promise: nil)
    context.read()
  }
}

extension ConnectionGuard.Refusal {
  fileprivate var problem: Problem {
    switch self {
    case .slowHead, .slowReader:
      Problem(kind: .requestTimeout, detail: "No whole request came in time.")
    case .headTooLarge:
      Problem(kind: .headerFieldsTooLarge, detail: "The request line and headers are too large.")
    case .host:
      .invalid(
        "Host", nil, "A request has one Host header, with a name or address, and a port if need be."
      )
    case .malformed: .invalid(nil, nil, "What came is no HTTP/1.1 request.")
    }
  }
}

/// HTTP/1.1 with a guard on each connection.
struct GuardedChannel: ServerChildChannel {
  private let http: HTTP1Channel
  private let house: ConnectionGuard.House

  init(_ house: ConnectionGuard.House, _ responder: @escaping HTTPChannelHandler.Responder) {
    self.house = house
    http = HTTP1Channel(
      responder: responder,
      configuration: .init(
        idleTimeout: nil,
        httpDecoderConfiguration: .init(
          maxHeaderFieldSize: house.limits.headBytesMax,
          maxHeaderListSize: house.limits.headBytesMax,
          maxHeaderFieldCount: house.limits.headFieldsMax)))
  }

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<HTTP1Channel.Value> {
    http.setup(channel: channel, logger: logger).flatMapThrowing { [house] value in
      let pipeline = channel.pipeline.syncOperations
      let parser = try pipeline.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)
      let wire = HeadOnWire()
      try pipeline.addHandler(ConnectionGuard(house, wire), position: .after(parser))
      // Below the encoder of answers.
      try pipeline.addHandler(wire, position: .first)
      return value
    }
  }

  func handle(value: HTTP1Channel.Value, logger: Logger) async {
    await http.handle(value: value, logger: logger)
  }
}
