import Foundation

/// A forward proxy. Its description does not contain the credentials.
public struct Proxy: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  public enum Kind: Sendable, Hashable {
    /// HTTP CONNECT over plain HTTP.
    case http
    /// SOCKS 5, without credentials.
    case socks
  }

  public let kind: Kind
  public let host: String
  public let port: Int
  public let user: String?
  public let exposedPassword: String?
  /// The setting that names the proxy: `api.proxy`, or an environment variable.
  public let origin: String

  /// - Parameters:
  ///   - url: `[http://][USER:PASSWORD@]HOST[:PORT]`, or `socks5://HOST[:PORT]`, or the same with `socks5h`.
  ///   - origin: the setting's name, for messages.
  /// - Throws: `ProxyRefusal`. Its text does not contain the URL.
  public init(_ url: String, origin: String) throws(ProxyRefusal) {
    let whole = url.contains("://") ? url : "http://\(url)"
    guard let parts = URLComponents(string: whole), let scheme = parts.scheme?.lowercased(),
      let host = parts.host, !host.isEmpty, ["", "/"].contains(parts.path), parts.query == nil,
      parts.fragment == nil, (parts.port ?? 1) > 0, (parts.port ?? 1) <= 65_535
    else {
      throw ProxyRefusal(
        message: "\(origin) is not the address of a proxy",
        remedy: """
          write it like http://proxy.example:3128, with USER:PASSWORD@ before the host if the proxy requires them
          """)
    }
    switch scheme {
    case "http": kind = .http
    case "socks5", "socks5h": kind = .socks
    default:
      throw ProxyRefusal(
        message: "\(origin) names a proxy that is neither http nor socks5",
        remedy: """
          name a proxy that accepts CONNECT over plain HTTP, or SOCKS 5; the connections through it are still encrypted
          """)
    }
    user = parts.user
    exposedPassword = parts.password
    guard kind == .http || user == nil else {
      throw ProxyRefusal(
        message: "\(origin) has credentials for a SOCKS proxy, which are not supported",
        remedy: "use the proxy's HTTP port, or allow this machine without credentials")
    }
    // A URL writes an IPv6 address in brackets.
    self.host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    port = parts.port ?? (kind == .http ? 80 : 1080)
    self.origin = origin
  }

  public var description: String {
    let shown = host.contains(":") ? "[\(host)]" : host
    return "\(kind == .http ? "http" : "socks5")://\(shown):\(port)"
  }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}

public struct ProxyRefusal: Error, Sendable {
  public let message: String
  public let remedy: String
}

/// The proxies, and the hosts for which they are not used.
///
/// The environment variables are those of curl and other programs: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
/// `NO_PROXY`. Each name in lower case is read first.
public struct ProxySettings: Sendable {
  private let https: Proxy?
  private let http: Proxy?
  private let exceptions: [Exception]

  /// No proxies.
  public init() {
    (https, http, exceptions) = (nil, nil, [])
  }

  /// - Parameters:
  ///   - chosen: the definition's setting: a URL, or `none`. It replaces the variables except `NO_PROXY`. An empty
  ///     string counts as not set.
  ///   - isEncrypted: whether the API uses https. Then all other hosts use https, too.
  /// - Throws: `ProxyRefusal` if the address of a proxy that would be used is not valid. Other addresses are not
  ///   checked.
  public init(
    chosen: String?, environment: [String: String], isEncrypted: Bool = false
  ) throws(ProxyRefusal) {
    let chosen = chosen.flatMap { $0.isEmpty ? nil : $0 }
    exceptions = Self.value(of: "NO_PROXY", environment).map { Self.exceptions($0.value) } ?? []
    if exceptions.contains(where: \.isEverything) {
      (https, http) = (nil, nil)
    } else if let chosen {
      let proxy = chosen == "none" ? nil : try Proxy(chosen, origin: "api.proxy")
      (https, http) = (proxy, proxy)
    } else {
      https = try Self.proxy("HTTPS_PROXY", environment)
      http = isEncrypted ? nil : try Self.proxy("HTTP_PROXY", environment)
    }
  }

  private static func proxy(
    _ name: String, _ environment: [String: String]
  ) throws(ProxyRefusal) -> Proxy? {
    guard let found = value(of: name, environment) ?? value(of: "ALL_PROXY", environment)
    else { return nil }
    return try Proxy(found.value, origin: found.name)
  }

  /// The value of an environment variable. An empty variable counts as not set.
  private static func value(
    of name: String, _ environment: [String: String]
  ) -> (name: String, value: String)? {
    for name in [name.lowercased(), name] {
      if let value = environment[name]?.trimmingCharacters(in: .whitespaces), !value.isEmpty {
        return (name, value)
      }
    }
    return nil
  }

  /// The proxy for a request to a host. Nil if the request uses no proxy.
  /// - Parameter host: a name or an address. An IPv6 address has no brackets.
  public func proxy(scheme: String, host: String, port: Int) -> Proxy? {
    guard let proxy = scheme.lowercased() == "https" ? https : http else { return nil }
    let plain = host.lowercased()
    // Requests to this machine over http never use a proxy on another machine, because the unencrypted token would
    // leave this machine, and the proxy would connect to its own loopback address.
    if scheme.lowercased() == "http", LoopbackHost.contains(plain),
      !LoopbackHost.contains(proxy.host)
    {
      return nil
    }
    return exceptions.contains { $0.covers(plain, port) } ? nil : proxy
  }

  /// All proxies that may be used.
  public var all: Set<Proxy> { Set([https, http].compactMap(\.self)) }

  // MARK: NO_PROXY

  private enum Exception: Sendable {
    case everything
    /// The domain and its subdomains.
    case domain(String, port: Int?)
    case network(IPAddress, prefixBits: Int)

    var isEverything: Bool { if case .everything = self { true } else { false } }

    func covers(_ host: String, _ port: Int) -> Bool {
      switch self {
      case .everything: return true
      case .domain(let domain, let itsPort):
        guard itsPort == nil || itsPort == port else { return false }
        return host == domain || host.hasSuffix(".\(domain)")
      case .network(let network, let bits):
        return IPAddress(host).map { network.sharesPrefix(of: bits, with: $0) } ?? false
      }
    }
  }

  /// Reads a list with commas or blanks between its entries: names, `.names` and `*.names`, addresses, and
  /// networks such as `10.0.0.0/8`. Names and addresses may have a port. `*` means every host.
  private static func exceptions(_ text: String) -> [Exception] {
    text.split { $0 == "," || $0.isWhitespace }.compactMap { entry in
      exception(entry.lowercased())
    }
  }

  private static func exception(_ entry: String) -> Exception? {
    if entry == "*" { return .everything }
    let network = entry.split(separator: "/", maxSplits: 1).map(String.init)
    if network.count == 2, let address = IPAddress(network[0]), let bits = Int(network[1]) {
      return .network(address, prefixBits: bits)
    }
    var name = entry
    var port: Int?
    if name.hasPrefix("["), let end = name.firstIndex(of: "]") {
      port = Int(name[end...].dropFirst(2))
      name = String(name[..<end].dropFirst())
    } else if let colon = name.lastIndex(of: ":"), colon == name.firstIndex(of: ":") {
      port = Int(name[colon...].dropFirst())
      name = String(name[..<colon])
    }
    if name.hasPrefix("*.") { name.removeFirst(2) }
    if name.hasPrefix(".") { name.removeFirst() }
    return name.isEmpty ? nil : .domain(name, port: port)
  }
}

/// The loopback names and addresses: `localhost`, `::1` and 127.0.0.0/8.
public enum LoopbackHost {
  public static func contains(_ host: String) -> Bool {
    if ["localhost", "::1", "[::1]"].contains(host.lowercased()) { return true }
    guard let address = IPAddress(host) else { return false }
    return address.bytes.count == 4 && address.bytes[0] == 127
  }
}

/// The bytes of an IPv4 or IPv6 address.
private struct IPAddress: Sendable {
  let bytes: [UInt8]

  init?(_ text: String) {
    var four = in_addr()
    var six = in6_addr()
    if inet_pton(AF_INET, text, &four) == 1 {
      bytes = withUnsafeBytes(of: &four) { Array($0) }
    } else if inet_pton(AF_INET6, text, &six) == 1 {
      bytes = withUnsafeBytes(of: &six) { Array($0) }
    } else {
      return nil
    }
  }

  func sharesPrefix(of bits: Int, with other: IPAddress) -> Bool {
    guard bytes.count == other.bytes.count, (0...bytes.count * 8).contains(bits) else {
      return false
    }
    return (0..<bits).allSatisfy { bit in
      (bytes[bit / 8] ^ other.bytes[bit / 8]) & (0x80 >> UInt8(bit % 8)) == 0
    }
  }
}
