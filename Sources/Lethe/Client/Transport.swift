import AsyncHTTPClient
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import NIOSSL
import ProductVersion
import Vocabulary

/// HTTP as this machine's network wants it: a proxy where one is set, the certificates that are trusted, and the times
/// that each call may take. A proxy belongs to a client as a whole, so there is a client for each.
struct Transport: Sendable {
  let settings: NetworkSettings
  private let direct: HTTPClient
  private let proxied: [Proxy: HTTPClient]
  private let roots: [NIOSSLCertificate]

  private static let userAgent = "lethe/\(Product.version) (+\(Product.homepage))"

  /// A year is for ever, and does not overflow.
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
    // Without this a refused connection takes the whole connect timeout to say so.
    configuration.connectionPool.retryConnectionEstablishment = false
    // A proxy and its credentials are of the settings alone.
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

  /// The system's certificates and these.
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

  /// - Parameter seconds: for all of it, the body of the answer, too.
  /// - Throws: `APIError` where a proxy or a certificate is in the way for good; else what the client throws.
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
      // The client's own deadline ends with the answer's head.
      response.body = .stream(BoundedBody(body: response.body, end: end, seconds: seconds))
      return response
    } catch {
      guard let origin else { throw error }
      if let obstacle = await obstacle(error, origin, proxy) { throw obstacle }
      guard let proxy else { throw error }
      throw APIError(
        kind: .temporary, operation: "connect to \(origin)",
        message: "no answer through the proxy \(proxy) (\(proxy.origin)): \(error)")
    }
  }

  /// What keeps a connection from coming about, if it is nothing that passes by itself.
  private func obstacle(
    _ error: any Error, _ origin: Origin, _ proxy: Proxy?
  ) async -> APIError? {
    func refused(
      _ kind: APIError.Kind, _ message: String, _ remedy: String? = nil
    ) -> APIError {
      APIError(
        kind: kind, operation: "connect to \(origin)", message: message, remedy: remedy)
    }
    if let error = error as? HTTPClientError, let proxy {
      let name = "the proxy \(proxy) (\(proxy.origin))"
      switch error {
      case .proxyAuthenticationRequired:
        let why = proxy.user == nil ? "wants credentials" : "refuses its credentials"
        return refused(.proxyRefused, "\(name) \(why)")
      case .invalidProxyResponse:
        guard let status = await PeerInspection(origin, proxy, settings).proxyStatus() else {
          return nil
        }
        // A gateway's error may pass.
        return (400..<500).contains(status) && ![408, 429].contains(status)
          ? refused(.proxyRefused, "\(name) does not lead there: it answers \(status)") : nil
      default: return nil
      }
    }
    guard TLSFailure.isLasting(error) else { return nil }
    guard TLSFailure.isOfCertificate(error) else {
      return refused(
        .untrusted, "no TLS comes about: \(TLSFailure.reason(error))",
        "see whether api.base_url is right, and what the host wants of its clients")
    }
    let certificate = await PeerInspection(origin, proxy, settings).certificate()
    let message = """
      the certificate of \(origin.host) is not trusted: \(TLSFailure.reason(error)); \
      its issuer is \(certificate?.issuer.map { "\"\($0)\"" } ?? "not to be seen")
      """
    guard let time = certificate?.notOfNow(Date()) else { return refused(.untrusted, message) }
    return refused(
      .untrusted, "\(message); \(time)",
      "have this machine's clock set by NTP; if it is right, the certificate is for the host's owner to renew"
    )
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

/// A body that has to be there in time: one byte now and then would keep a connection open for ever.
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
          kind: .temporary, operation: "read an answer",
          message: "it was not over after \(bounds.seconds) s")
      }
      return block
    }
  }

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(iterator: body.makeAsyncIterator(), bounds: self)
  }
}
