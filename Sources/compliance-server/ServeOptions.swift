public import ArgumentParser
public import ComplianceService
import Foundation
import Logging

/// How the bytes of jobs travel.
struct WireOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "native or gcs: how the bytes of new jobs travel.",
      discussion: """
        native: through this host, with the App's bearer token. gcs: through a storage host, where the \
        signed URL is the only credential, as they did until August 2026.
        """))
  var profile = WireProfile.native

  @Option(
    name: .customLong("storage-listen"),
    help: ArgumentHelp(
      "Where the gcs profile's bytes are served: another host than the API's.",
      valueName: "address"))
  var storage = ListenAddress(host: "127.0.0.2", port: 8081)

  @Option(
    name: .customLong("storage-public-url"),
    help: ArgumentHelp(
      "What the gcs profile's byte URLs begin with. (default: the storage address)",
      valueName: "url"))
  var storagePublicURL: String?
}

extension WireProfile: ExpressibleByArgument {}

/// - Throws: a `ValidationError` if clients could not follow the URLs that the server hands out.
func requireReachable(_ address: ListenAddress, _ publicURL: String?, option: String) throws {
  guard !address.isEveryAddress || publicURL != nil else {
    throw ValidationError(
      "Clients cannot reach \(address.host): say with \(option) what upload and download URLs "
        + "begin with.")
  }
  guard let publicURL else { return }
  let url = URL(string: publicURL)
  guard ["http", "https"].contains(url?.scheme), url?.host() != nil else {
    throw ValidationError("\(option) has to be an http:// or https:// URL.")
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

/// `host:port`, the host of IPv6 in brackets.
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

  /// The server can listen on these, but nobody can connect to them by that name.
  var isEveryAddress: Bool { ["0.0.0.0", "::", "*"].contains(host) }
}

extension String {
  func trimmingSuffix(_ character: Character) -> Substring {
    var rest = self[...]
    while rest.last == character { rest.removeLast() }
    return rest
  }
}
