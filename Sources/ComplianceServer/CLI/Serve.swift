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
      Jobs and results outlive the server: started again on the same database and spool directory, \
      it goes on where it was killed. Told to stop, it lets the requests under way finish first, for \
      5 seconds at most.

      An upload may have 128,000,000 bytes, in the gcs profile 1,000,000,000. A request's head may \
      have 32 KiB and 100 fields and has to come within 20 seconds; while a body is sent or taken, \
      15 kB have to move in each 30 seconds.
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
      discussion: "A path that it has is one that the proxy takes off.",
      valueName: "url"))
  var publicURL: String?

  @Option(
    help: ArgumentHelp(
      "Where uploads and results are kept; made if missing, and of one database alone.",
      discussion: """
        Default: a folder named for the database, in compliance-server in $XDG_STATE_HOME, or in \
        .local/state/compliance-server in the home folder.
        """, valueName: "dir"), completion: .directory)
  var spool: String?

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

  @OptionGroup(title: "Wire profile") var wire: WireOptions

  @Option(
    name: .customLong("rate-limit"),
    help: ArgumentHelp(
      "How many requests an App may send to each endpoint in 15 minutes; 0 is no limit.",
      valueName: "requests"))
  var rateLimit = 150

  @Option(
    name: .customLong("connections"),
    help: ArgumentHelp(
      "How many connections each host takes at a time; more wait.", valueName: "number"))
  var connectionsMax = ComplianceServer.ConnectionLimits().connectionsMax

  @Option(
    name: .customLong("faults"),
    help: ArgumentHelp(
      "A plan of what goes wrong on purpose; see compliance-server faults --help.",
      valueName: "plan.yaml"),
    completion: .file(extensions: ["yaml", "yml"]))
  var faultPlan: String?

  @Option(
    name: .customLong("admin-token"),
    help: ArgumentHelp(
      "What opens the operator's pages, as a bearer token or a Basic password.",
      discussion: """
        Also taken from COMPLIANCE_SERVER_ADMIN_TOKEN. Without one they are open, but only on a \
        server that listens on a loopback address and has no --public-url, and only to requests \
        for a name of loopback, such as http://127.0.0.1:8080/.
        """,
      valueName: "secret"))
  var adminToken: String?

  @Flag(
    name: .customLong("access-log"),
    help: "Write a line of JSON on stdout for each request, without its query and its tokens.")
  var writesAccessLog = false

  @Option(
    name: .customLong("log-level"),
    help: "How much to log on stderr.")
  var logLevel: LogLevel = .info

  func validate() throws {
    guard !allTokens.isEmpty else {
      throw ValidationError(
        "No App may use this server: give a --token, or set COMPLIANCE_SERVER_TOKEN.")
    }
    try requireReachable(listen, publicURL, option: "--public-url")
    try requireReachable(wire.storage, wire.storagePublicURL, option: "--storage-public-url")
    guard connectionsMax > 0 else { throw ValidationError("--connections has to be at least 1.") }
    guard rateLimit >= 0 else { throw ValidationError("--rate-limit cannot be negative.") }
    guard uploadLifetimeSeconds >= 0, downloadLifetimeSeconds >= 0 else {
      throw ValidationError("A lifetime cannot be negative.")
    }
  }

  func run() async throws {
    // A file that may not grow any more is an error of the job that it belongs to, not the server's end.
    signal(SIGXFSZ, SIG_IGN)
    let accessLog = writesAccessLog ? LineWriter(.standardOutput) : nil
    defer { accessLog?.drain() }
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
    configuration.migrations = try migrations.set()
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
