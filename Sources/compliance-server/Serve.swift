import ArgumentParser
import ComplianceService
import Foundation
import Logging
import Migrations
import SystemPackage

struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve the Batch Compliance endpoints until SIGTERM or SIGINT.",
    discussion: """
      Jobs and results outlive the server: started again on the same database and spool directory, \
      it goes on where it was killed.
      """)

  @OptionGroup var database: DatabaseOption
  @OptionGroup var migrations: MigrationsOption

  @Option(help: "The address and port to listen on; port 0 takes a free one.")
  var listen: ListenAddress = ListenAddress(host: "127.0.0.1", port: 8080)

  @Option(
    name: .customLong("token"),
    help: ArgumentHelp(
      "The bearer token of an App; repeat it for several Apps.",
      discussion: """
        Tokens are also taken from COMPLIANCE_SERVER_TOKEN, separated by blanks, so that none \
        appears in the process list. Apps never see each other's jobs.
        """,
      valueName: "secret"))
  var tokens: [String] = []

  @Option(
    name: .customLong("public-url"),
    help: ArgumentHelp(
      "What upload and download URLs begin with. (default: the listen address)",
      valueName: "url"))
  var publicURL: String?

  @Option(
    help: ArgumentHelp(
      "Where uploads and results are kept; made if missing, and of one server alone.",
      valueName: "dir"))
  var spool = "compliance-spool"

  @Option(
    name: .customLong("upload-lifetime"),
    help: ArgumentHelp(
      "How long after its creation a job takes its upload.", valueName: "seconds"))
  var uploadLifetimeSeconds = 15 * 60

  @Option(
    name: .customLong("download-lifetime"),
    help: ArgumentHelp(
      "How long after a job's creation its result can be downloaded.", valueName: "seconds"))
  var downloadLifetimeSeconds = 7 * 24 * 60 * 60

  @Option(
    name: .customLong("log-level"),
    help: "How much to log on stderr.")
  var logLevel: LogLevel = .info

  func validate() throws {
    guard !allTokens.isEmpty else {
      throw ValidationError(
        "No App may use this server: give a --token, or set COMPLIANCE_SERVER_TOKEN.")
    }
    guard !listen.isEveryAddress || publicURL != nil else {
      throw ValidationError(
        "Clients cannot reach \(listen.host): say with --public-url what upload and download URLs "
          + "begin with.")
    }
    if let publicURL {
      let url = URL(string: publicURL)
      guard ["http", "https"].contains(url?.scheme), url?.host() != nil else {
        throw ValidationError("--public-url has to be an http:// or https:// URL.")
      }
    }
    guard uploadLifetimeSeconds >= 0, downloadLifetimeSeconds >= 0 else {
      throw ValidationError("A lifetime cannot be negative.")
    }
  }

  func run() async throws {
    try await ComplianceServer.run(serverConfiguration())
  }

  private func serverConfiguration() throws -> ComplianceServer.Configuration {
    var logger = Logger(label: "compliance-server") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = logLevel.level
    var configuration = ComplianceServer.Configuration(
      database: database.connectionString, tokens: allTokens.map { AppToken($0) },
      spool: FilePath(spool), logger: logger)
    configuration.host = listen.host
    configuration.port = listen.port
    configuration.publicURL = publicURL.map { String($0.trimmingSuffix("/")) }
    configuration.migrations = try MigrationSet(directory: FilePath(migrations.directory))
    configuration.uploadLifetime = .seconds(uploadLifetimeSeconds)
    configuration.downloadLifetime = .seconds(downloadLifetimeSeconds)
    return configuration
  }

  private var allTokens: [String] {
    let variable = ProcessInfo.processInfo.environment["COMPLIANCE_SERVER_TOKEN"] ?? ""
    return tokens + variable.split(whereSeparator: \.isWhitespace).map(String.init)
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
  fileprivate func trimmingSuffix(_ character: Character) -> Substring {
    var rest = self[...]
    while rest.last == character { rest.removeLast() }
    return rest
  }
}
