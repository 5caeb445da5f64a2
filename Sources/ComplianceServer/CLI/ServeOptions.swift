public import ArgumentParser
public import ComplianceService
import Foundation
import Logging

/// The options for the wire profile.
struct WireOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "native or gcs: how new jobs transfer their files.",
      discussion: """
        native: transfers use the API's host and the App's bearer token. gcs: transfers use a storage host, \
        and the signed URL is the only credential. X used gcs until August 2026.
        """))
  var profile = WireProfile.native

  @Option(
    help: ArgumentHelp(
      "overview or guide: the actions and reasons in results. X documents two sets.",
      discussion: """
        overview: the API's overview page, with bounced and scrub_geo. guide: the integration guide of \
        September 2026, with geo_scrubbed. docs/reference/result-words.md has the table.
        """))
  var vocabulary = ResultVocabulary.overview

  @Option(
    name: .customLong("storage-listen"),
    help: ArgumentHelp(
      "The address and port of the gcs profile's storage host. It differs from the API's.",
      valueName: "address"))
  var storage = ListenAddress(host: "127.0.0.2", port: 8081)

  @Option(
    name: .customLong("storage-public-url"),
    help: ArgumentHelp(
      "The base of the gcs profile's upload and download URLs. (default: the storage address)",
      discussion: """
        The signatures cover the host, so a proxy must forward the Host header unchanged. If the URL has a \
        path, the proxy must remove this path from requests.
        """,
      valueName: "url"))
  var storagePublicURL: String?
}

extension WireProfile: ExpressibleByArgument {}
extension ResultVocabulary: ExpressibleByArgument {}

/// Checks that clients can use the URLs in the server's responses.
/// - Throws: a `ValidationError` if they cannot.
func requireReachable(_ address: ListenAddress, _ publicURL: String?, option: String) throws {
  guard !address.isEveryAddress || publicURL != nil else {
    throw ValidationError(
      "Clients cannot reach \(address.host): set the base of upload and download URLs with "
        + "\(option).")
  }
  guard let publicURL else { return }
  do throws(PublicURL.Malformed) {
    _ = try PublicURL(publicURL)
  } catch {
    throw ValidationError("\(option) \(error).")
  }
}

enum LogLevel: String, ExpressibleByArgument, CaseIterable {
  case debug
  case info
  case warning
  case error

  var level: Logger.Level {
    switch self {
    case .debug: .debug
    case .info: .info
    case .warning: .warning
    case .error: .error
    }
  }
}

/// `host:port`, with an IPv6 address in brackets.
struct ListenAddress: ExpressibleByArgument {
  let host: String
  let port: Int

  init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  init?(argument: String) {
    guard let colon = argument.lastIndex(of: ":"),
      let port = UInt16(argument[argument.index(after: colon)...])
    else { return nil }
    var host = argument[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    guard !host.isEmpty else { return nil }
    self.init(host: String(host), port: Int(port))
  }

  var defaultValueDescription: String { "\(host):\(port)" }

  /// Whether the host means all addresses of this machine. Clients on other machines cannot connect to such a host.
  var isEveryAddress: Bool {
    if host == "*" { return true }
    // The resolver also accepts other forms of these addresses, such as 0 for 0.0.0.0, and 0::0 for ::.
    var (v4, v6) = (in_addr(), in6_addr())
    if inet_aton(host, &v4) == 1 { return v4.s_addr == 0 }
    guard inet_pton(AF_INET6, host, &v6) == 1 else { return false }
    return withUnsafeBytes(of: &v6) { bytes in
      // An IPv4 address can be written as ::ffff:0.0.0.0.
      bytes[..<10].allSatisfy { $0 == 0 }
        && [[0, 0], [0xff, 0xff]].contains(Array(bytes[10..<12]))
        && bytes[12...].allSatisfy { $0 == 0 }
    }
  }
}
