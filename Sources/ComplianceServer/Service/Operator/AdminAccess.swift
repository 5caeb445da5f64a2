internal import Checksums
internal import Foundation
internal import HTTPTypes
internal import Hummingbird

/// Decides who may see the operator's pages. With an admin token, every request needs the token. Without a token,
/// only requests from this machine to a loopback host are allowed.
///
/// The host name is checked because of DNS rebinding. The owner of a foreign web page can let the page's DNS name
/// resolve to 127.0.0.1, so that the page can read these pages through a local browser. But the owner cannot change the
/// `Host` that the browser sends.
struct AdminAccess: Sendable {
  private let fingerprint: [UInt8]?
  /// Whether the server listens on a loopback address and has no public URL. With a public URL, a proxy might forward
  /// requests of other machines.
  private let isLocal: Bool

  init(token: AppToken?, isLocal: Bool) {
    fingerprint = token?.fingerprint
    self.isLocal = isLocal
  }

  /// Accepts the token as a bearer token, or as the password of Basic authentication, which browsers support.
  /// - Throws: a 401 problem if the token is missing or wrong. A 404 problem if the server has no admin token and the
  ///   request might be from another machine.
  func admit(_ request: Request) throws {
    guard let fingerprint else {
      guard isLocal, Self.isFromThisMachine(request) else {
        throw Problem(
          kind: .notFound,
          detail:
            "Without an admin token, this page is available only at http://127.0.0.1 on the server's "
            + "machine. Start the server with an admin token to open the page from other machines.")
      }
      return
    }
    guard let presented = Self.secret(of: request),
      constantTimeEqual(SHA256.hash(presented), fingerprint)
    else {
      throw Problem(
        kind: .unauthorized, detail: "This page needs the admin token.",
        challenge: "Basic realm=\"compliance-server\"")
    }
  }

  /// Request headers that proxies add. A request with one of them might come from another machine.
  private static let proxyHeaders: Set = [
    "forwarded", "via", "x-real-ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip",
  ]

  private static func isFromThisMachine(_ request: Request) -> Bool {
    guard let authority = request.head.authority, isLoopback(authority: authority) else {
      return false
    }
    return !request.headers.contains { field in
      let name = field.name.canonicalName
      return proxyHeaders.contains(name) || name.hasPrefix("x-forwarded-") || name.hasPrefix("cf-")
    }
  }

  private static func secret(of request: Request) -> String? {
    let words = request.headers[.authorization]?.split(separator: " ", maxSplits: 1) ?? []
    guard words.count == 2 else { return nil }
    switch words[0].lowercased() {
    case "bearer": return String(words[1])
    case "basic":
      guard let data = Data(base64Encoded: String(words[1])),
        let colon = data.firstIndex(of: UInt8(ascii: ":"))
      else { return nil }
      return String(decoding: data[data.index(after: colon)...], as: UTF8.self)
    default: return nil
    }
  }
}
