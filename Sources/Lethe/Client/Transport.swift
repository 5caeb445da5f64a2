import AsyncHTTPClient
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import NIOSSL
import ProductVersion
import Synchronization
import Vocabulary
import WorkFiles

/// HTTP with this machine's network settings: proxies, trusted certificates and timeouts. AsyncHTTPClient sets the
/// proxy for a whole client, so there is one client for each proxy.
struct Transport: Sendable {
  let settings: NetworkSettings
  private let direct: HTTPClient
  private let proxied: [Proxy: HTTPClient]
  private let roots: [NIOSSLCertificate]

  private static let userAgent = "lethe/\(Product.version) (+\(Product.homepage))"

  /// `TCP_NOTSENT_LOWAT`. Without it, the system accepts several megabytes that it has not sent yet. On a slow network,
  /// these would take longer than `stall_seconds`, and the client would no longer see the upload's progress.
  private static let unsentBytes = ChannelOptions.Types.SocketOption(
    level: .tcp, name: .init(rawValue: 25))
  private static let unsentBytesMax: SocketOptionValue = 1 << 18

  /// One year: longer than any call, and short enough not to overflow.
  fileprivate static let secondsMax = 31_536_000.0

  /// - Throws: `APIError` `.untrusted` for certificates that cannot be read.
  init(_ settings: NetworkSettings) throws {
    self.settings = settings
    roots = try TrustedCertificates.read(settings.certificates)
    var configuration = HTTPClient.Configuration(
      redirectConfiguration: .disallow,
      timeout: .init(
        connect: .seconds(settings.connectSeconds), read: .seconds(settings.stallSeconds),
        write: .seconds(settings.stallSeconds)))
    // Otherwise a connection that is refused at once would fail only after the connect timeout.
    configuration.connectionPool.retryConnectionEstablishment = false
    // The proxy and its credentials come from Lethe's settings only.
    configuration.proxy = nil
    if !roots.isEmpty { configuration.tlsConfiguration = Self.tls(trusting: roots) }
    configuration.http1_1ConnectionDebugInitializer = { channel in
      // If the system refuses this option, the connection still works, but a slow upload might seem to stall.
      channel.setOption(Self.unsentBytes, value: Self.unsentBytesMax).recover { _ in }
    }
    direct = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    var proxied: [Proxy: HTTPClient] = [:]
    for proxy in settings.proxies.all {
      configuration.proxy = proxy.forClient
      proxied[proxy] = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }
    self.proxied = proxied
  }

  /// Trusts the system's certificates and `roots`.
  static func tls(trusting roots: [NIOSSLCertificate]) -> TLSConfiguration {
    var tls = TLSConfiguration.makeClientConfiguration()
    if !roots.isEmpty { tls.additionalTrustRoots = [.certificates(roots)] }
    return tls
  }

  func shutdown() async throws {
    try await direct.shutdown()
    for client in proxied.values { try await client.shutdown() }
  }

  func proxy(to origin: Origin) -> Proxy? {
    settings.proxies.proxy(scheme: origin.scheme, host: origin.host, port: origin.port)
  }

  /// - Parameters:
  ///   - seconds: the limit for the whole call, including the response's body; `.infinity` for no limit.
  ///   - progress: the progress of the request's body. Without progress for `stall_seconds`, the call fails.
  /// - Throws: `APIError` if a proxy or a TLS error prevents the connection; `NoResponse`; else what the client
  ///   throws.
  func execute(
    _ request: HTTPClientRequest, seconds: Double, progress: SendingProgress? = nil
  ) async throws -> HTTPClientResponse {
    var request = request
    request.headers.replaceOrAdd(name: "User-Agent", value: Self.userAgent)
    let origin = Origin(request.url)
    let proxy = origin.flatMap { self.proxy(to: $0) }
    let client = proxy.flatMap { proxied[$0] } ?? direct
    let end = ContinuousClock.now + .seconds(min(seconds, Self.secondsMax))
    do {
      var response = try await send(request, client, seconds: seconds, progress)
      // The client's own deadline covers only the response's head.
      response.body = .stream(
        BoundedBody(body: response.body, end: end) {
          body(failed: $0, origin, proxy, seconds: seconds)
        })
      return response
    } catch {
      try Task.checkCancellation()
      guard let origin, !(error is WorkFileError) else { throw error }
      if let cause = await connectionError(error, origin, proxy) { throw cause }
      guard let failure = ConnectionFailure(error) else {
        guard let proxy else { throw error }
        throw APIError(
          kind: .temporary, operation: "connect to \(origin)",
          message: "no response through the proxy \(proxy) (\(proxy.origin)): \(error)")
      }
      throw await noResponse(failure, origin, proxy, seconds: seconds)
    }
  }

  private func send(
    _ request: HTTPClientRequest, _ client: HTTPClient, seconds: Double,
    _ progress: SendingProgress?
  ) async throws -> HTTPClientResponse {
    let deadline = NIODeadline.now() + .seconds(seconds)
    guard let progress else {
      return try await client.execute(request, deadline: deadline, logger: nil)
    }
    // The client's own write timeout does not run while the other side accepts no bytes.
    return try await withThrowingTaskGroup(of: HTTPClientResponse.self) { group in
      group.addTask { try await client.execute(request, deadline: deadline, logger: nil) }
      group.addTask {
        try await progress.stalled(for: settings.stallSeconds)
        throw ConnectionFailure.sendingStalled
      }
      defer { group.cancelAll() }
      guard let response = try await group.next() else { throw CancellationError() }
      return response
    }
  }

  /// Runs `body`, which receives the rest of a response.
  /// - Throws: `NoResponse` if it takes longer than `seconds`.
  func withLimit<R: Sendable>(
    seconds: Double, _ request: HTTPClientRequest, _ body: @escaping @Sendable () async throws -> R
  ) async throws -> R {
    try await withThrowingTaskGroup(of: R.self) { group in
      group.addTask { try await body() }
      group.addTask {
        try await Task.sleep(for: .seconds(min(seconds, Self.secondsMax)))
        let origin = Origin(request.url)
        throw self.body(
          failed: ConnectionFailure.late, origin, origin.flatMap { proxy(to: $0) }, seconds: seconds
        )
      }
      defer { group.cancelAll() }
      guard let value = try await group.next() else { throw CancellationError() }
      return value
    }
  }

  /// The error of a call without a response.
  private func noResponse(
    _ failure: ConnectionFailure, _ origin: Origin, _ proxy: Proxy?, seconds: Double
  ) async -> NoResponse {
    let host = proxy?.host ?? origin.host
    if failure == .name || failure == .connectTimeout {
      switch await NameLookup.ask(host) {
      case .found: break
      case .unknown:
        return NoResponse(kind: .unknownHost, message: "the name \(host) does not exist in DNS")
      case .failed(let words):
        return NoResponse(
          message: "no response (the name \(host) could not be resolved: \(words))")
      }
    }
    return temporary(failure, origin, proxy, seconds: seconds)
  }

  private func temporary(
    _ failure: ConnectionFailure, _ origin: Origin, _ proxy: Proxy?, seconds: Double
  ) -> NoResponse {
    // With a proxy, a failure before the connection is open concerns the proxy. A later failure can concern the proxy
    // or the host.
    let words = failure.message(
      (failure.isBeforeConnection ? proxy?.host : nil) ?? origin.host, settings, seconds: seconds)
    let way = proxy.map { " through the proxy \($0) (\($0.origin))" } ?? ""
    return NoResponse(message: "no response\(way) (\(words))")
  }

  /// Returns the error for a body that broke off.
  private func body(
    failed error: any Error, _ origin: Origin?, _ proxy: Proxy?, seconds: Double
  ) -> any Error {
    guard let failure = ConnectionFailure(error), let origin else { return error }
    return temporary(failure, origin, proxy, seconds: seconds)
  }

  /// Returns the reason why a connection cannot be made. Nil if the reason is unknown.
  private func connectionError(
    _ error: any Error, _ origin: Origin, _ proxy: Proxy?
  ) async -> APIError? {
    if let failure = TLSFailure(error) { return await connectionError(failure, origin, proxy) }
    guard let proxy else { return nil }
    switch (proxy.kind, error as? HTTPClientError) {
    case (.http, .proxyAuthenticationRequired):
      return connectionError(.requiresCredentials, of: proxy, to: origin)
    case (.http, .invalidProxyResponse), (.http, .remoteConnectionClosed), (.socks, _):
      switch await PeerInspection(origin, proxy, settings).proxyFault() {
      case .refused(let response): return connectionError(response, of: proxy, to: origin)
      case .uses(let other): return connectionError(protocol: other, proxy, to: origin)
      case nil: return nil
      }
    case (.http, _): return nil
    }
  }

  /// The error for a proxy that does not connect to the host. Nil if it connects.
  private func connectionError(
    _ response: ProxyDialogue.Response, of proxy: Proxy, to origin: Origin
  ) -> APIError? {
    let name = "the proxy \(proxy) (\(proxy.origin))"
    func refused(
      _ kind: APIError.Kind, _ message: String, _ remedy: String? = nil
    ) -> APIError {
      APIError(
        kind: kind, operation: "connect to \(origin)", message: "\(name) \(message)",
        remedy: remedy)
    }
    switch response {
    case .connected: return nil
    case .requiresCredentials where proxy.kind == .socks:
      return refused(
        .proxyRefused, "requires credentials, which Lethe does not support for SOCKS",
        "use the proxy's HTTP port, or allow this machine to use the proxy without credentials")
    case .requiresCredentials:
      return refused(
        .proxyRefused,
        proxy.user == nil ? "requires credentials" : "refuses the configured credentials")
    case .status(407): return connectionError(.requiresCredentials, of: proxy, to: origin)
    case .status(let status):
      // A proxy's status 408, 429 or 5xx can be temporary.
      let isPermanent = (400..<500).contains(status) && ![408, 429].contains(status)
      return refused(
        isPermanent ? .proxyRefused : .temporary,
        "does not connect to the host: its status is \(status)")
    case .reply(let reply):
      let kind: APIError.Kind =
        switch reply {
        case 2: .proxyRefused
        case 7, 8: .wrongProxyProtocol
        default: .temporary
        }
      return refused(
        kind, "does not connect to the host: \(ProxyDialogue.Response.meaning(ofReply: reply))")
    case .otherProtocol: return refused(.wrongProxyProtocol, "does not use SOCKS 5")
    }
  }

  private func connectionError(protocol other: String, _ proxy: Proxy, to origin: Origin)
    -> APIError
  {
    APIError(
      kind: .wrongProxyProtocol, operation: "connect to \(origin)",
      message: "the proxy \(proxy) (\(proxy.origin)) does not accept plain HTTP: it uses \(other)",
      remedy: other == "SOCKS"
        ? "write the proxy's address with socks5:// (api.proxy, HTTPS_PROXY)"
        : "write the proxy's port for plain HTTP (api.proxy, HTTPS_PROXY); the traffic through it is still encrypted"
    )
  }

  private func connectionError(_ failure: TLSFailure, _ origin: Origin, _ proxy: Proxy?) async
    -> APIError
  {
    func refused(
      _ kind: APIError.Kind, _ message: String, _ remedy: String? = nil
    ) -> APIError {
      APIError(
        kind: kind, operation: "connect to \(origin)", message: message, remedy: remedy)
    }
    switch failure {
    case .certificate(let reason):
      let certificate = await PeerInspection(origin, proxy, settings).certificate()
      let message = """
        the certificate of \(origin.host) is not trusted: \(reason); \
        its issuer is \(certificate?.issuer.map { "\"\($0)\"" } ?? "unknown")
        """
      guard let time = certificate?.invalidity(at: Date()) else {
        return refused(.untrusted, message)
      }
      return refused(
        .untrusted, "\(message); \(time)",
        "set this machine's clock by NTP; if the clock is right, ask the host's owner to renew the certificate"
      )
    case .clientCertificate(let reason):
      return refused(
        .clientCertificateRequired,
        "\(origin.host) requires a client certificate, and refuses the connection: \(reason)")
    case .unknownName(let reason):
      return refused(
        .untrusted, "the TLS handshake failed: \(origin.host) reports \"\(reason)\"",
        "check the address, and that its DNS name resolves to the right host on this machine")
    case .noTLS(let reason):
      return refused(
        .untrusted, "the server does not use TLS: \(reason)",
        "check the scheme and port of the address, and that no captive portal intercepts the connection"
      )
    case .nothingInCommon(let reason):
      return refused(
        .untrusted, "the TLS handshake failed: \(reason)",
        "enable TLS 1.2 or newer on the host, or on the proxy that terminates TLS for it")
    case .temporary(let reason): return refused(.temporary, "no response (TLS: \(reason))")
    }
  }
}

extension Proxy {
  var forClient: HTTPClient.Configuration.Proxy {
    switch kind {
    case .http:
      .server(
        host: host, port: port,
        authorization: user.map { .basic(username: $0, password: exposedPassword ?? "") })
    case .socks: .socksServer(host: host, port: port)
    }
  }
}

extension TimeAmount {
  static func seconds(_ seconds: Double) -> TimeAmount {
    .nanoseconds(Int64(min(seconds, Transport.secondsMax) * 1e9))
  }
}

/// The error of a call without a complete response. `ComplianceClient.repeated` adds the call's name.
struct NoResponse: Error {
  var kind = APIError.Kind.temporary
  let message: String
}

/// A body with a deadline, whose errors name their cause. Without a deadline, a server that sends single bytes slowly
/// would keep a connection open forever.
private struct BoundedBody: AsyncSequence, Sendable {
  let body: HTTPClientResponse.Body
  let end: ContinuousClock.Instant
  let named: @Sendable (any Error) -> any Error

  struct AsyncIterator: AsyncIteratorProtocol {
    var iterator: HTTPClientResponse.Body.AsyncIterator
    let bounds: BoundedBody

    mutating func next() async throws -> ByteBuffer? {
      let block: ByteBuffer?
      do {
        block = try await iterator.next()
      } catch {
        try Task.checkCancellation()
        throw bounds.named(error)
      }
      guard block == nil || ContinuousClock.now < bounds.end else {
        throw bounds.named(ConnectionFailure.late)
      }
      return block
    }
  }

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(iterator: body.makeAsyncIterator(), bounds: self)
  }
}

/// The progress of a request's body: when the connection last accepted bytes of it.
final class SendingProgress: Sendable {
  private struct State {
    var acceptedAt = ContinuousClock.now
    var isComplete = false
  }

  private let state = Mutex(State())

  /// The connection has accepted the bytes so far, and requests more.
  func accepted() {
    state.withLock { $0.acceptedAt = .now }
  }

  /// The connection has all bytes. From now on the client waits for the response, with its own timeout.
  func completed() {
    state.withLock { $0.isComplete = true }
  }

  /// Returns when the connection has accepted no byte for `seconds`. Does not return if it has all bytes.
  /// - Throws: `CancellationError`.
  func stalled(for seconds: Double) async throws {
    let limit = Duration.seconds(min(seconds, Transport.secondsMax))
    while true {
      let now = ContinuousClock.now
      let (end, isComplete) = state.withLock { ($0.acceptedAt + limit, $0.isComplete) }
      if isComplete {
        try await Task.sleep(for: .seconds(Transport.secondsMax))
      } else if now >= end {
        return
      } else {
        try await Task.sleep(until: end, clock: .continuous)
      }
    }
  }
}
