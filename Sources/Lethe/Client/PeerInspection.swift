import CLibCrypto
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Vocabulary

/// Looks at what keeps a connection from being made, for a message: what the proxy answers, and who issued the
/// certificate that is shown. Nothing is sent but the CONNECT and the begin of TLS, which it ends.
struct PeerInspection: Sendable {
  private let origin: Origin
  private let proxy: Proxy?
  private let settings: NetworkSettings

  init(_ origin: Origin, _ proxy: Proxy?, _ settings: NetworkSettings) {
    (self.origin, self.proxy, self.settings) = (origin, proxy, settings)
  }

  /// What the proxy answers to CONNECT.
  func proxyStatus() async -> Int? {
    guard case .proxyAnswered(let status)? = await look() else { return nil }
    return status
  }

  /// What a certificate says of itself.
  struct Certificate: Sendable {
    let issuer: String?
    let validFrom: Date
    let validUntil: Date

    /// What is wrong with its time; nil if nothing is.
    func notOfNow(_ now: Date) -> String? {
      if now > validUntil {
        return
          "it was good until \(HTTPDate.text(validUntil)), and it is \(HTTPDate.text(now)) here"
      }
      if now < validFrom {
        return
          "it is good from \(HTTPDate.text(validFrom)) on, and it is \(HTTPDate.text(now)) here"
      }
      return nil
    }
  }

  /// The one that the host shows, or that somebody between shows for it.
  func certificate() async -> Certificate? {
    guard case .shown(let certificate)? = await look() else { return nil }
    func date(_ time: time_t) -> Date { Date(timeIntervalSince1970: Double(time)) }
    return Certificate(
      issuer: Self.issuer(of: certificate), validFrom: date(certificate.notValidBefore),
      validUntil: date(certificate.notValidAfter))
  }

  enum Sight: Sendable {
    case proxyAnswered(Int)
    case shown(NIOSSLCertificate)
  }

  private func look() async -> Sight? {
    // A SOCKS proxy would have to be spoken to in its own way.
    if proxy?.kind == .socks { return nil }
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    let promise = loop.makePromise(of: Sight?.self)
    let bootstrap = ClientBootstrap(group: loop)
      .connectTimeout(.seconds(settings.connectSeconds))
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let proxy {
            let handler = ConnectHandler(origin, proxy, promise)
            try channel.pipeline.syncOperations.addHandler(handler)
          } else {
            try Self.addTLS(to: channel, origin, promise)
          }
        }
      }
    let connected = bootstrap.connect(
      host: proxy?.host ?? origin.host, port: proxy?.port ?? origin.port)
    // A promise that is kept takes no other value.
    let timeout = loop.scheduleTask(in: .seconds(settings.connectSeconds)) { promise.succeed(nil) }
    connected.whenFailure { _ in promise.succeed(nil) }
    connected.whenSuccess { channel in
      channel.closeFuture.whenComplete { _ in promise.succeed(nil) }
    }
    let sight = try? await promise.futureResult.get()
    timeout.cancel()
    if let channel = try? await connected.get() { try? await channel.close() }
    return sight ?? nil
  }

  private static func addTLS(
    to channel: any Channel, _ origin: Origin, _ promise: EventLoopPromise<Sight?>
  ) throws {
    let context = try NIOSSLContext(configuration: .makeClientConfiguration())
    let isAddress = (try? SocketAddress(ipAddress: origin.host, port: 0)) != nil
    let handler = try NIOSSLClientHandler(
      context: context, serverHostname: isAddress ? nil : origin.host,
      customVerificationCallback: { certificates, verdict in
        promise.succeed(certificates.first.map { .shown($0) })
        // Seen, and not trusted.
        verdict.succeed(.failed)
      })
    try channel.pipeline.syncOperations.addHandler(handler)
  }

  /// Asks the proxy to CONNECT, and begins TLS behind it.
  private final class ConnectHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private static let answerBytesMax = 16_384
    private let origin: Origin
    private let proxy: Proxy
    private let promise: EventLoopPromise<Sight?>
    private var answer = ""

    init(_ origin: Origin, _ proxy: Proxy, _ promise: EventLoopPromise<Sight?>) {
      (self.origin, self.proxy, self.promise) = (origin, proxy, promise)
    }

    func channelActive(context: ChannelHandlerContext) {
      let host = origin.host.contains(":") ? "[\(origin.host)]" : origin.host
      var lines = ["CONNECT \(host):\(origin.port) HTTP/1.1", "Host: \(host):\(origin.port)"]
      if let user = proxy.user {
        let credentials = Data("\(user):\(proxy.exposedPassword ?? "")".utf8).base64EncodedString()
        lines.append("Proxy-Authorization: Basic \(credentials)")
      }
      let request = lines.joined(separator: "\r\n") + "\r\n\r\n"
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: request)), promise: nil)
      context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      answer += String(buffer: unwrapInboundIn(data))
      guard answer.contains("\r\n\r\n") else {
        if answer.utf8.count > Self.answerBytesMax { promise.succeed(nil) }
        return
      }
      let status = answer.split(separator: " ", maxSplits: 2).dropFirst().first.flatMap { Int($0) }
      guard let status, (200..<300).contains(status) else {
        promise.succeed(status.map { .proxyAnswered($0) })
        return
      }
      do {
        try PeerInspection.addTLS(to: context.channel, origin, promise)
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
      } catch {
        promise.succeed(nil)
      }
    }
  }

  /// The issuer's name: `O = Example, CN = Example Root CA`.
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
