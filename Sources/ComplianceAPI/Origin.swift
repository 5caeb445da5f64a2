import Foundation

/// Scheme, host and port: what the Bearer token is bound to.
struct Origin: Equatable {
  let scheme: String
  let host: String
  let port: Int

  init?(_ url: String) {
    guard let parts = URLComponents(string: url), let scheme = parts.scheme?.lowercased(),
      let host = parts.host?.lowercased(), !host.isEmpty
    else { return nil }
    self.scheme = scheme
    self.host = host
    port = parts.port ?? (scheme == "http" ? 80 : 443)
  }

  /// - Parameter hosts: `host`, any port, or `host:port`.
  func isAllowed(by hosts: [String]) -> Bool {
    hosts.contains { $0.lowercased() == host || $0.lowercased() == "\(host):\(port)" }
  }
}
