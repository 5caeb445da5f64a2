public import ArgumentParser
public import ComplianceService
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
    help: ArgumentHelp(
      "overview or guide: the words of results, of which X documents two sets.",
      discussion: """
        overview: those of the API's overview page, with bounced and scrub_geo. guide: those of the \
        integration guide of September 2026, with geo_scrubbed. docs/reference/result-words.md has the table.
        """))
  var vocabulary = ResultVocabulary.overview

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
      discussion: """
        Signatures go by it: a proxy has to hand the Host of requests on as it came, and take a path \
        that the URL has off.
        """,
      valueName: "url"))
  var storagePublicURL: String?
}

extension WireProfile: ExpressibleByArgument {}
extension ResultVocabulary: ExpressibleByArgument {}

/// - Throws: a `ValidationError` if clients could not follow the URLs that the server hands out.
func requireReachable(_ address: ListenAddress, _ publicURL: String?, option: String) throws {
  guard !address.isEveryAddress || publicURL != nil else {
    throw ValidationError(
      "Clients cannot reach \(address.host): say with \(option) what upload and download URLs "
        + "begin with.")
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
