import AsyncHTTPClient
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import NIOSSL
import ProductVersion
import Vocabulary

/// HTTP with this machine's network settings: proxies, trusted certificates and timeouts. AsyncHTTPClient sets the
/// proxy for a whole client, so there is one client for each proxy.
struct Transport: Sendable {
  let settings: NetworkSettings
  private let direct: HTTPClient
  private let proxied: [Proxy: HTTPClient]
  private let roots: [NIOSSLCertificate]

  private static let userAgent = "lethe/\(Product.version) (+\(Product.homepage))"

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
    // Otherwise a refused connection fails only after the whole connect timeout.
    configuration.connectionPool.retryConnectionEstablishment = false
    // The proxy and its credentials come from Lethe's settings only.
    configuration.proxy = nil
    if !roots.isEmpty { configuration.tlsConfiguration = Self.tls(trusting: roots) }
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

  /// - Parameter seconds: the limit for the whole call, including the response's body.
  /// - Throws: `APIError` if a proxy or a certificate prevents the connection; else what the client throws.
  func execute(_ request: HTTPClientRequest, seconds: Double) async throws -> HTTPClientResponse {
    var request = request
    request.headers.replaceOrAdd(name: "User-Agent", value: Self.userAgent)
    let origin = Origin(request.url)
    let proxy = origin.flatMap { self.proxy(to: $0) }
    let client = proxy.flatMap { proxied[$0] } ?? direct
    let end = ContinuousClock.now + .seconds(min(seconds, Self.secondsMax))
    do {
      var response = try await client.execute(
        request, deadline: .now() + .seconds(seconds), logger: nil)
      // The client's own deadline covers only the response's head.
      response.body = .stream(BoundedBody(body: response.body, end: end, seconds: seconds))
      return response
    } catch {
      try Task.checkCancellation()
      guard let origin else { throw error }
      if let obstacle = await obstacle(error, origin, proxy) { throw obstacle }
      guard let proxy else { throw error }
      throw APIError(
        kind: .temporary, operation: "connect to \(origin)",
        message: "no response through the proxy \(proxy) (\(proxy.origin)): \(error)")
    }
  }

  /// Returns the reason why a connection cannot be made. Nil if the reason is unknown.
  private func obstacle(
    _ error: any Error, _ origin: Origin, _ proxy: Proxy?
  ) async -> APIError? {
    if let failure = TLSFailure(error) { return await obstacle(failure, origin, proxy) }
    guard let proxy else { return nil }
    switch (proxy.kind, error as? HTTPClientError) {
    case (.http, .proxyAuthenticationRequired):
      return obstacle(.wantsCredentials, of: proxy, to: origin)
    case (.http, .invalidProxyResponse), (.http, .remoteConnectionClosed), (.socks, _):
      switch await PeerInspection(origin, proxy, settings).proxyFault() {
      case .refused(let answer): return obstacle(answer, of: proxy, to: origin)
      case .speaks(let other): return obstacle(protocol: other, proxy, to: origin)
      case nil: return nil
      }
    case (.http, _): return nil
    }
  }

  /// The error for a proxy that does not connect to the host. Nil if it connects.
  private func obstacle(
    _ answer: ProxyDialogue.Answer, of proxy: Proxy, to origin: Origin
  ) -> APIError? {
    let name = "the proxy \(proxy) (\(proxy.origin))"
    func refused(
      _ kind: APIError.Kind, _ message: String, _ remedy: String? = nil
    ) -> APIError {
      APIError(
        kind: kind, operation: "connect to \(origin)", message: "\(name) \(message)",
        remedy: remedy)
    }
    switch answer {
    case .connected: return nil
    case .wantsCredentials where proxy.kind == .socks:
      return refused(
        .proxyRefused, "requires credentials, which Lethe does not support for SOCKS",
        "use its HTTP port, or allow this machine to use the proxy without credentials")
    case .wantsCredentials:
      return refused(
        .proxyRefused,
        proxy.user == nil ? "requires credentials" : "refuses the configured credentials")
    case .status(407): return obstacle(.wantsCredentials, of: proxy, to: origin)
    case .status(let status):
      // A status 5xx of a gateway can be temporary.
      let isLasting = (400..<500).contains(status) && ![408, 429].contains(status)
      return refused(
        isLasting ? .proxyRefused : .temporary,
        "does not connect to the host: its status is \(status)")
    case .reply(let reply):
      let kind: APIError.Kind =
        switch reply {
        case 2: .proxyRefused
        case 7, 8: .proxyMistaken
        default: .temporary
        }
      return refused(
        kind, "does not connect to the host: \(ProxyDialogue.Answer.words(ofReply: reply))")
    case .otherProtocol: return refused(.proxyMistaken, "does not use SOCKS 5")
    }
  }

  private func obstacle(protocol other: String, _ proxy: Proxy, to origin: Origin) -> APIError {
    APIError(
      kind: .proxyMistaken, operation: "connect to \(origin)",
      message: "the proxy \(proxy) (\(proxy.origin)) does not accept plain HTTP: it uses \(other)",
      remedy: other == "SOCKS"
        ? "write its address with socks5://"
        : "write its port for plain HTTP; the traffic through the proxy is still encrypted")
  }

  private func obstacle(_ failure: TLSFailure, _ origin: Origin, _ proxy: Proxy?) async -> APIError
  {
    func refused(
      _ kind: APIError.Kind, _ message: String, _ remedy: String? = nil
    ) -> APIError {
      APIError(
        kind: kind, operation: "connect to \(origin)", message: message, remedy: remedy)
    }
    switch failure {
    case .certificate(let words):
      let certificate = await PeerInspection(origin, proxy, settings).certificate()
      let message = """
        the certificate of \(origin.host) is not trusted: \(words); \
        its issuer is \(certificate?.issuer.map { "\"\($0)\"" } ?? "unknown")
        """
      guard let time = certificate?.notOfNow(Date()) else { return refused(.untrusted, message) }
      return refused(
        .untrusted, "\(message); \(time)",
        "set this machine's clock by NTP; if the clock is right, ask the host's owner to renew the certificate"
      )
    case .clientCertificate(let words):
      return refused(
        .certificateWanted,
        "\(origin.host) requires a client certificate, and refuses the connection: \(words)")
    case .unknownName(let words):
      return refused(
        .untrusted, "the TLS handshake failed: \(origin.host) reports \"\(words)\"",
        "check the address, and that its name resolves to the right host on this machine")
    case .noTLS(let words):
      return refused(
        .untrusted, "the server does not use TLS: \(words)",
        "check the scheme and port of the address, and that no captive portal intercepts the connection"
      )
    case .nothingInCommon(let words):
      return refused(
        .untrusted, "the TLS handshake failed: \(words)",
        "enable TLS 1.2 or newer on the host, or on the proxy that ends TLS for it")
    case .passing(let words): return refused(.temporary, "no response (TLS: \(words))")
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

/// A body with a deadline. Without it, a server that sends single bytes slowly would keep a connection open forever.
private struct BoundedBody: AsyncSequence, Sendable {
  let body: HTTPClientResponse.Body
  let end: ContinuousClock.Instant
  let seconds: Double

  struct AsyncIterator: AsyncIteratorProtocol {
    var iterator: HTTPClientResponse.Body.AsyncIterator
    let bounds: BoundedBody

    mutating func next() async throws -> ByteBuffer? {
      let block = try await iterator.next()
      guard block == nil || ContinuousClock.now < bounds.end else {
        throw APIError(
          kind: .temporary, operation: "read a response",
          message: "it was not complete after \(bounds.seconds) s")
      }
      return block
    }
  }

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(iterator: body.makeAsyncIterator(), bounds: self)
  }
}
