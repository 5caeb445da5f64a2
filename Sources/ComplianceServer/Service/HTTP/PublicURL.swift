/// The base of upload and download URLs when clients reach the server under another address than the one it
/// listens on. It has the form in which clients send it back, because the URL signatures cover it.
///
/// Scheme and host become lower case; the scheme's default port and slashes at the end are removed. A path is
/// a prefix that a proxy removes before it forwards a request.
public struct PublicURL: Sendable, Hashable {
  /// Why a text is not such a URL.
  public struct Malformed: Error, Sendable, CustomStringConvertible {
    public let description: String
  }

  /// Without a slash at its end.
  public let text: String

  /// - Throws: `Malformed`.
  public init(_ text: String) throws(Malformed) {
    guard let end = text.firstRange(of: "://"), !text[..<end.lowerBound].isEmpty else {
      throw Malformed(description: "has to be an http:// or https:// URL")
    }
    let scheme = text[..<end.lowerBound].lowercased()
    guard let ownPort = ["http": "80", "https": "443"][scheme] else {
      throw Malformed(description: "has to be an http:// or https:// URL")
    }
    let rest = text[end.upperBound...]
    let authority = rest.prefix { $0 != "/" }
    let (host, port) = try Self.parts(of: authority)
    let path = try Self.path(rest.dropFirst(authority.count))
    self.text =
      "\(scheme)://\(host)\(port == nil || port == ownPort ? "" : ":\(port ?? "")")\(path)"
  }

  /// The host and port of a valid URL, as clients send them in `Host`.
  static func authority(of url: String) -> Substring {
    guard let end = url.firstRange(of: "://") else { return "" }
    return url[end.upperBound...].prefix { $0 != "/" }
  }

  private static func parts(of authority: Substring) throws(Malformed) -> (String, port: String?) {
    guard
      let match = authority.wholeMatch(
        of: /(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z](?:[0-9A-Za-z._\-]*[0-9A-Za-z])?)(?::([0-9]{1,5}))?/)
    else {
      throw Malformed(
        description: "has to have a host, with a port or without, and no user, query or fragment: "
          + "a name of other letters is written as xn--…")
    }
    guard let written = match.2 else { return (match.1.lowercased(), nil) }
    guard let port = UInt16(written), port > 0 else {
      throw Malformed(description: "has the port \(written), and ports are from 1 to 65535")
    }
    return (match.1.lowercased(), "\(port)")
  }

  private static func path(_ path: Substring) throws(Malformed) -> Substring {
    var path = path
    while path.last == "/" { path.removeLast() }
    let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
    // Clients and proxies do not agree on how to encode other paths.
    guard
      parts.allSatisfy({ $0.wholeMatch(of: /[0-9A-Za-z._~\-]+/) != nil && $0 != "." && $0 != ".." })
    else {
      throw Malformed(
        description:
          "has to have a plain path, of letters, digits and -._~, or none, and no query or fragment"
      )
    }
    return path
  }
}
