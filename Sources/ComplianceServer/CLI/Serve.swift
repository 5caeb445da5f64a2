import ArgumentParser
import ComplianceService
import FaultPlans
import Foundation
import Logging
import Migrations
import SystemPackage

struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve the Batch Compliance endpoints until SIGTERM or SIGINT.",
    discussion: """
      Jobs and results survive a restart: with the same database and spool directory, the server \
      continues where it stopped. On SIGTERM or SIGINT it finishes the current requests, for at most \
      5 seconds.

      Limits: 128,000,000 bytes for an upload (1,000,000,000 in the gcs profile). 32 KiB and 100 header \
      fields for a request's head. A connection's first head must arrive within 20 seconds. A client must \
      send or receive at least 15 kB of a body in each 30 seconds.
      """)

  @OptionGroup var database: DatabaseOption
  @OptionGroup var migrations: MigrationsOption

  @Option(help: "The address and port to listen on; port 0 means any free port.")
  var listen: ListenAddress = ListenAddress(host: "127.0.0.1", port: 8080)

  @Option(
    name: .customLong("token"),
    help: ArgumentHelp(
      "The bearer token of an App. Repeat the option for several Apps.",
      discussion: """
        The variable COMPLIANCE_SERVER_TOKEN can hold tokens, too, separated by spaces. Use it to keep \
        tokens out of the process list. An App cannot see the jobs of other Apps.
        """,
      valueName: "secret"))
  var tokens: [String] = []

  @Option(
    name: .customLong("public-url"),
    help: ArgumentHelp(
      "The base of upload and download URLs. (default: the listen address)",
      discussion: "If the URL has a path, your proxy must remove this path from requests.",
      valueName: "url"))
  var publicURL: String?

  @Option(
    help: ArgumentHelp(
      "The directory of uploads and results. It is created if missing, and belongs to one database.",
      discussion: """
        Default: a directory for this database alone, in $XDG_STATE_HOME/compliance-server or \
        ~/.local/state/compliance-server.
        """, valueName: "dir"), completion: .directory)
  var spool: String?

  @Option(
    name: .customLong("upload-lifetime"),
    help: ArgumentHelp(
      "How long a job accepts its upload after the job's creation.", valueName: "seconds"))
  var uploadLifetimeSeconds = 15 * 60

  @Option(
    name: .customLong("download-lifetime"),
    help: ArgumentHelp(
      "How long a result can be downloaded after its job's creation.", valueName: "seconds"))
  var downloadLifetimeSeconds = 7 * 24 * 60 * 60

  @OptionGroup(title: "Wire profile") var wire: WireOptions

  @Option(
    name: .customLong("rate-limit"),
    help: ArgumentHelp(
      "How many requests an App may send to each endpoint in 15 minutes; 0 means no limit.",
      valueName: "requests"))
  var rateLimit = 150

  @Option(
    name: .customLong("connections"),
    help: ArgumentHelp(
      "The largest number of open connections at each listen address. Further connections wait.",
      valueName: "number"))
  var connectionsMax = ComplianceServer.ConnectionLimits().connectionsMax

  @Option(
    name: .customLong("faults"),
    help: ArgumentHelp(
      "A fault plan to inject; see compliance-server faults --help.",
      valueName: "plan.yaml"),
    completion: .file(extensions: ["yaml", "yml"]))
  var faultPlan: String?

  @Option(
    name: .customLong("admin-token"),
    help: ArgumentHelp(
      "The token for the operator's pages: a bearer token or a Basic password.",
      discussion: """
        The variable COMPLIANCE_SERVER_ADMIN_TOKEN can hold it, too. Without a token, the pages are \
        available only if the server listens on a loopback address and has no --public-url, and only \
        with a loopback host in the URL, such as http://127.0.0.1:8080/.
        """,
      valueName: "secret"))
  var adminToken: String?

  @Flag(
    name: .customLong("access-log"),
    help: "Write a line of JSON to stdout for each request, without the query and the tokens.")
  var writesAccessLog = false

  @Option(
    name: .customLong("log-level"),
    help: "The lowest level of messages to log to stderr.")
  var logLevel: LogLevel = .info

  func validate() throws {
    guard !allTokens.isEmpty else {
      throw ValidationError(
        "The server has no App: add --token, or set COMPLIANCE_SERVER_TOKEN.")
    }
    try requireReachable(listen, publicURL, option: "--public-url")
    try requireReachable(wire.storage, wire.storagePublicURL, option: "--storage-public-url")
    guard connectionsMax > 0 else { throw ValidationError("--connections must be at least 1.") }
    guard rateLimit >= 0 else { throw ValidationError("--rate-limit cannot be negative.") }
    guard uploadLifetimeSeconds >= 0, downloadLifetimeSeconds >= 0 else {
      throw ValidationError("A lifetime cannot be negative.")
    }
    // A signed URL of the storage host can be valid for seven days at most.
    let secondsMax = 604_800
    guard wire.profile != .gcs || max(uploadLifetimeSeconds, downloadLifetimeSeconds) <= secondsMax
    else {
      throw ValidationError("In the gcs profile, a lifetime can be at most \(secondsMax) seconds.")
    }
  }

  func run() async throws {
    // If a file reaches the size limit, SIGXFSZ would kill the server. If the signal is ignored, only the write fails.
    signal(SIGXFSZ, SIG_IGN)
    let accessLog = writesAccessLog ? LineWriter(.standardOutput) : nil
    defer { accessLog?.flush() }
    try await ComplianceServer.run(serverConfiguration(accessLog))
  }

  private static var stateDirectory: FilePath {
    let environment = ProcessInfo.processInfo.environment
    func folder(_ name: String) -> String? {
      environment[name].flatMap { $0.hasPrefix("/") ? $0 : nil }
    }
    let state =
      folder("XDG_STATE_HOME") ?? "\(folder("HOME") ?? NSHomeDirectory())/.local/state"
    return FilePath(state).appending("compliance-server")
  }

  private func serverConfiguration(
    _ accessLog: LineWriter?
  ) throws -> ComplianceServer.Configuration {
    var logger = Logger(label: "compliance-server") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = logLevel.level
    var configuration = ComplianceServer.Configuration(
      database: database.connectionString, tokens: allTokens.map { AppToken($0) },
      spool: spool.map { FilePath($0) }, logger: logger)
    configuration.stateDirectory = Self.stateDirectory
    configuration.host = listen.host
    configuration.port = listen.port
    configuration.publicURL = publicURL
    configuration.profile = wire.profile
    configuration.vocabulary = wire.vocabulary
    configuration.storageHost = wire.storage.host
    configuration.storagePort = wire.storage.port
    configuration.storagePublicURL = wire.storagePublicURL
    configuration.rateLimit =
      rateLimit == 0 ? nil : ComplianceServer.RateLimit(requestsMax: rateLimit)
    configuration.connections.connectionsMax = connectionsMax
    configuration.adminToken = secret(adminToken, variable: "COMPLIANCE_SERVER_ADMIN_TOKEN")
    configuration.accessLog = accessLog?.write
    configuration.faults = try faultPlan.map { try readFaultPlan($0) }
    configuration.migrations = try migrations.migrationSet()
    configuration.uploadLifetime = .seconds(uploadLifetimeSeconds)
    configuration.downloadLifetime = .seconds(downloadLifetimeSeconds)
    return configuration
  }

  private func secret(_ given: String?, variable: String) -> AppToken? {
    let text = given ?? ProcessInfo.processInfo.environment[variable] ?? ""
    return text.isEmpty ? nil : AppToken(text)
  }

  private var allTokens: [String] {
    let variable = ProcessInfo.processInfo.environment["COMPLIANCE_SERVER_TOKEN"] ?? ""
    return tokens + variable.split(whereSeparator: \.isWhitespace).map(String.init)
  }
}
