/// The base of upload and download URLs, if clients do not use the address on which the server listens.
///
/// The signature of a storage URL covers the host. So the URL is normalized as clients normalize it: the scheme and the
/// host become lower case, and the scheme's default port is removed. Slashes at the end are removed, too. A path is a
/// prefix that a proxy removes before it forwards a request.
public struct PublicURL: Sendable, Hashable {
  /// The reason why a string is not a valid public URL.
  public struct Malformed: Error, Sendable, CustomStringConvertible {
    public let description: String
  }

  /// The URL, without a slash at its end.
  public let text: String

  /// - Throws: `Malformed`.
  public init(_ text: String) throws(Malformed) {
    guard let end = text.firstRange(of: "://"), !text[..<end.lowerBound].isEmpty else {
      throw Malformed(description: "must be an http:// or https:// URL")
    }
    let scheme = text[..<end.lowerBound].lowercased()
    guard let ownPort = ["http": "80", "https": "443"][scheme] else {
      throw Malformed(description: "must be an http:// or https:// URL")
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
        description: "must have a host, optionally a port, and no user, query or fragment; "
          + "write a host name with non-ASCII letters in its ASCII form, xn--…")
    }
    guard let written = match.2 else { return (match.1.lowercased(), nil) }
    guard let port = UInt16(written), port > 0 else {
      throw Malformed(description: "has the port \(written), but a port must be from 1 to 65535")
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
          "must have no query and no fragment; between the slashes of its path, write only letters, digits and -._~, "
          + "and no empty part, no . and no .."
      )
    }
    return path
  }
}
