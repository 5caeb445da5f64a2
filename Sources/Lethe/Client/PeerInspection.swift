import CLibCrypto
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Vocabulary

/// Finds out why a connection failed, for an error message: the proxy's response, and the issuer and the validity of
/// the host's certificate. It sends only a connect request to the proxy and the start of a TLS handshake. It does not
/// complete the handshake.
struct PeerInspection: Sendable {
  private let origin: Origin
  private let proxy: Proxy?
  private let settings: NetworkSettings

  init(_ origin: Origin, _ proxy: Proxy?, _ settings: NetworkSettings) {
    (self.origin, self.proxy, self.settings) = (origin, proxy, settings)
  }

  /// The reason why a proxy does not connect to the host.
  enum ProxyFault: Sendable {
    case refused(ProxyDialogue.Response)
    /// The proxy uses this protocol instead of plain HTTP.
    case uses(String)
  }

  /// Returns why the proxy does not connect; nil if it connects, or if the reason is unknown.
  func proxyFault() async -> ProxyFault? {
    switch await observe() {
    case .refused(let response): return .refused(response)
    case .connected, .presented: return nil
    case nil: break
    }
    guard let proxy, proxy.kind == .http else { return nil }
    if await PeerInspection(Origin(proxy), nil, settings).observe() != nil { return .uses("TLS") }
    switch await observe(using: .socks) {
    case .refused(.otherProtocol), nil: return nil
    case .refused, .presented, .connected: return .uses("SOCKS")
    }
  }

  /// The parts of a certificate that a message contains.
  struct Certificate: Sendable {
    let issuer: String?
    let validFrom: Date
    let validUntil: Date

    /// Returns why the certificate is not valid at this time; nil if it is valid.
    func invalidity(at now: Date) -> String? {
      if now > validUntil {
        return
          "it expired on \(HTTPDate.text(validUntil)), and this machine's clock shows \(HTTPDate.text(now))"
      }
      if now < validFrom {
        return
          "it is valid from \(HTTPDate.text(validFrom)), and this machine's clock shows \(HTTPDate.text(now))"
      }
      return nil
    }
  }

  /// Returns the certificate of the host, or of a proxy that intercepts TLS.
  func certificate() async -> Certificate? {
    guard case .presented(let certificate)? = await observe() else { return nil }
    func date(_ time: time_t) -> Date { Date(timeIntervalSince1970: Double(time)) }
    return Certificate(
      issuer: Self.issuer(of: certificate), validFrom: date(certificate.notValidBefore),
      validUntil: date(certificate.notValidAfter))
  }

  private enum Observation: Sendable {
    /// The proxy refused to connect.
    case refused(ProxyDialogue.Response)
    /// The proxy connects to a host that presents no certificate.
    case connected
    /// The host, or a proxy that intercepts TLS, presented this certificate.
    case presented(NIOSSLCertificate)
  }

  /// Connects and returns what the proxy or the host does; nil after a failure or the time limit.
  /// - Parameter kind: the protocol to try with the proxy; nil means the configured protocol.
  private func observe(using kind: Proxy.Kind? = nil) async -> Observation? {
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    let promise = loop.makePromise(of: Observation?.self)
    let bootstrap = ClientBootstrap(group: loop)
      .connectTimeout(.seconds(settings.connectSeconds))
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let proxy {
            let dialogue = ProxyDialogue(origin: origin, proxy: proxy, kind: kind ?? proxy.kind)
            let handler = ProxyDialogueHandler(dialogue) { response, context in
              Self.startTLS(after: response, context, origin, promise)
            }
            try channel.pipeline.syncOperations.addHandler(handler)
          } else {
            try Self.addTLS(to: channel, origin, promise)
          }
        }
      }
    let connected = bootstrap.connect(
      host: proxy?.host ?? origin.host, port: proxy?.port ?? origin.port)
    // Several events end the inspection. Only the first value of a promise counts.
    let timeout = loop.scheduleTask(in: .seconds(settings.connectSeconds)) { promise.succeed(nil) }
    connected.whenFailure { _ in promise.succeed(nil) }
    connected.whenSuccess { channel in
      channel.closeFuture.whenComplete { _ in promise.succeed(nil) }
    }
    let observation = try? await promise.futureResult.get()
    timeout.cancel()
    if let channel = try? await connected.get() { try? await channel.close() }
    return observation ?? nil
  }

  /// Starts TLS if the proxy has connected.
  private static func startTLS(
    after response: ProxyDialogue.Response?, _ context: ChannelHandlerContext, _ origin: Origin,
    _ promise: EventLoopPromise<Observation?>
  ) {
    guard response == .connected else { return promise.succeed(response.map { .refused($0) }) }
    guard origin.scheme == "https" else { return promise.succeed(.connected) }
    context.channel.closeFuture.whenComplete { _ in promise.succeed(.connected) }
    do {
      try addTLS(to: context.channel, origin, promise)
    } catch {
      promise.succeed(.connected)
    }
  }

  private static func addTLS(
    to channel: any Channel, _ origin: Origin, _ promise: EventLoopPromise<Observation?>
  ) throws {
    let context = try NIOSSLContext(configuration: .makeClientConfiguration())
    let isAddress = (try? SocketAddress(ipAddress: origin.host, port: 0)) != nil
    let handler = try NIOSSLClientHandler(
      context: context, serverHostname: isAddress ? nil : origin.host,
      customVerificationCallback: { certificates, verdict in
        promise.succeed(certificates.first.map { .presented($0) })
        // The handshake ends here, because only the certificate was needed.
        verdict.succeed(.failed)
      })
    try channel.pipeline.syncOperations.addHandler(handler)
  }

  /// Returns the issuer's name, such as `O = Example, CN = Example Root CA`.
  private static func issuer(of certificate: NIOSSLCertificate) -> String? {
    guard let der = try? certificate.toDERBytes() else { return nil }
    return der.withUnsafeBufferPointer { bytes in
      var next = bytes.baseAddress
      guard let parsed = d2i_X509(nil, &next, bytes.count), let memory = BIO_new(BIO_s_mem()) else {
        return nil
      }
      defer {
        X509_free(parsed)
        BIO_free(memory)
      }
      guard X509_NAME_print_ex(memory, X509_get_issuer_name(parsed), 0, lethe_name_flags) >= 0
      else { return nil }
      var text = [UInt8](repeating: 0, count: 1000)
      let count = BIO_read(memory, &text, Int32(text.count))
      return count > 0 ? String(decoding: text.prefix(Int(count)), as: UTF8.self) : nil
    }
  }
}
