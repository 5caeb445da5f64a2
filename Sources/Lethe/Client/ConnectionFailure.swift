import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Vocabulary

/// The cause of a call without a complete response. TLS errors are in `TLSFailure`.
enum ConnectionFailure: Error, Equatable {
  /// Nothing listens on the host's port.
  case refused
  /// The network has no route to the host.
  case unreachable
  /// The attempt to connect, the proxy's handshake or the TLS handshake took too long.
  case connectTimeout
  /// The other side ended the connection with a reset.
  case reset
  /// The other side closed the connection.
  case closed
  /// No byte arrived for `stall_seconds`.
  case receivingStalled
  /// The other side accepted no byte for `stall_seconds`.
  case sendingStalled
  /// The call took longer than its limit.
  case late
  /// The host's name could not be resolved. `NameLookup` finds out why.
  case name
  /// The other side does not use HTTP.
  case notHTTP

  /// Returns nil for an error with another cause.
  init?(_ error: any Error) {
    switch error {
    case let failure as ConnectionFailure: self = failure
    case let error as HTTPClientError: self.init(error)
    case let error as NIOConnectionError: self.init(error)
    case let error as IOError: self.init(error)
    case ChannelError.connectTimeout: self = .connectTimeout
    case ChannelError.eof, ChannelError.ioOnClosedChannel, ChannelError.alreadyClosed,
      ChannelError.inputClosed, ChannelError.outputClosed, NIOSSLError.uncleanShutdown:
      self = .closed
    case HTTPParserError.invalidEOFState: self = .closed
    case is HTTPParserError: self = .notHTTP
    default: return nil
    }
  }

  private init?(_ error: HTTPClientError) {
    switch error {
    case .connectTimeout, .httpProxyHandshakeTimeout, .socksHandshakeTimeout, .tlsHandshakeTimeout:
      self = .connectTimeout
    case .readTimeout: self = .receivingStalled
    case .writeTimeout: self = .sendingStalled
    case .deadlineExceeded: self = .late
    case .remoteConnectionClosed, .uncleanShutdown: self = .closed
    default: return nil
    }
  }

  private init?(_ error: NIOConnectionError) {
    let causes = error.connectionErrors.compactMap { ConnectionFailure($0.error) }
    // A host can have several addresses. The cause that says most about the host comes first.
    for cause in [Self.refused, .reset, .connectTimeout, .unreachable] where causes.contains(cause)
    {
      self = cause
      return
    }
    guard error.connectionErrors.isEmpty, error.dnsAError != nil || error.dnsAAAAError != nil
    else { return nil }
    self = .name
  }

  private init?(_ error: IOError) {
    switch error.errnoCode {
    case ECONNREFUSED: self = .refused
    case ECONNRESET, ECONNABORTED: self = .reset
    case EPIPE: self = .closed
    case ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, EADDRNOTAVAIL: self = .unreachable
    case ETIMEDOUT: self = .connectTimeout
    default: return nil
    }
  }

  /// Whether the connection could not be opened, so that the host has received nothing.
  var isBeforeConnection: Bool {
    switch self {
    case .refused, .unreachable, .connectTimeout, .name: true
    case .reset, .closed, .receivingStalled, .sendingStalled, .late, .notHTTP: false
    }
  }

  /// - Parameters:
  ///   - host: the host, or the proxy if the call uses one.
  ///   - seconds: the limit for the whole call.
  func message(_ host: String, _ settings: NetworkSettings, seconds: Double) -> String {
    func text(_ seconds: Double) -> String { String(format: "%.12g s", seconds) }
    return switch self {
    case .refused: "\(host) refused the connection"
    case .unreachable: "the network has no route to \(host)"
    case .connectTimeout: "no connection to \(host) within \(text(settings.connectSeconds))"
    case .reset: "\(host) reset the connection"
    case .closed: "\(host) closed the connection before the response was complete"
    case .receivingStalled: "no byte arrived from \(host) for \(text(settings.stallSeconds))"
    case .sendingStalled: "\(host) accepted no byte for \(text(settings.stallSeconds))"
    case .late: "the response from \(host) was not complete after \(text(seconds))"
    case .name: "the name \(host) could not be resolved"
    case .notHTTP: "\(host) did not respond with HTTP"
    }
  }
}

/// Asks the system's resolver for a name, after a connection has failed. The HTTP client reports only that the name has
/// no address, and not whether the resolver failed.
enum NameLookup {
  enum Outcome: Equatable, Sendable {
    case found
    /// The name does not exist, or has no address.
    case unknown
    /// The resolver failed or did not respond in time. The text says why.
    case failed(String)
  }

  /// The longest wait for the resolver, in seconds. The system's resolver can wait longer for its name servers.
  private static let secondsMax = 20.0

  static func ask(_ host: String) async -> Outcome {
    let (outcomes, outcome) = AsyncStream.makeStream(of: Outcome.self)
    // A call of the resolver cannot be cancelled, and a cancelled task does not wait for it.
    DispatchQueue.global().async {
      outcome.yield(resolve(host))
      outcome.finish()
    }
    DispatchQueue.global().asyncAfter(deadline: .now() + secondsMax) {
      outcome.yield(.failed("no name server responds"))
      outcome.finish()
    }
    for await outcome in outcomes { return outcome }
    return .failed("the search was cancelled")
  }

  private static func resolve(_ host: String) -> Outcome {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var addresses: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, nil, &hints, &addresses)
    if let addresses { freeaddrinfo(addresses) }
    return outcome(of: code)
  }

  /// The meaning of a result of `getaddrinfo`.
  static func outcome(of code: Int32) -> Outcome {
    switch code {
    case 0: .found
    // Some systems have a code of their own for a name without an address.
    case EAI_NONAME, noDataCode: .unknown
    default: .failed(String(cString: gai_strerror(code)).lowercased())
    }
  }

  /// glibc's `EAI_NODATA`, which its header hides.
  private static let noDataCode: Int32 = -5
}
