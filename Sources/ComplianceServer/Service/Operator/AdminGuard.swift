internal import Checksums
internal import Foundation
internal import HTTPTypes
internal import Hummingbird

/// Who may see the operator's pages: whoever has the admin token; without one, whoever reaches a server
/// that only this machine can reach, under a name that only this machine has.
///
/// A page of somebody else's can have its own name resolve to 127.0.0.1, and have a browser on this machine read
/// what is served there (DNS rebinding). It cannot change the name that the browser then sends.
struct AdminGuard: Sendable {
  private let fingerprint: [UInt8]?
  /// Whether only this machine reaches the server, and no proxy stands before it.
  private let isLocal: Bool

  init(token: AppToken?, isLocal: Bool) {
    fingerprint = token?.fingerprint
    self.isLocal = isLocal
  }

  /// The token comes as a bearer token or as the password of Basic authentication, which browsers ask for.
  /// - Throws: a 401 problem.
  func admit(_ request: Request) throws {
    guard let fingerprint else {
      guard isLocal, Self.isOfThisMachine(request) else {
        throw Problem(
          kind: .notFound,
          detail: "Start the server with an admin token to see this page by another way than "
            + "http://127.0.0.1 on its own machine.")
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

  /// Proxies that add these may be asked by anybody.
  private static let proxyHeaders: Set = [
    "forwarded", "via", "x-real-ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip",
  ]

  private static func isOfThisMachine(_ request: Request) -> Bool {
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
