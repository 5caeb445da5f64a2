import Foundation
import Vocabulary

/// The scheme, host and port of a URL. The bearer token is sent to one origin only.
struct Origin: Equatable, CustomStringConvertible {
  let scheme: String
  let host: String
  let port: Int

  init?(_ url: String) {
    guard let parts = URLComponents(string: url), let scheme = parts.scheme?.lowercased(),
      let host = parts.host?.lowercased(), !host.isEmpty
    else { return nil }
    self.scheme = scheme
    // A URL writes an IPv6 address in brackets.
    self.host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    port = parts.port ?? (scheme == "http" ? 80 : 443)
  }

  /// The origin for a TLS connection to the proxy itself, to find out whether the proxy expects TLS.
  init(_ proxy: Proxy) {
    (scheme, host, port) = ("https", proxy.host, proxy.port)
  }

  /// The host as it is written in a URL.
  private var written: String { host.contains(":") ? "[\(host)]" : host }

  var description: String { "\(scheme)://\(written):\(port)" }

  /// - Parameter hosts: each entry is `host`, which allows any port, or `host:port`.
  func isAllowed(by hosts: [String]) -> Bool {
    hosts.contains { [host, written, "\(written):\(port)"].contains($0.lowercased()) }
  }
}
