internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import NIOCore
internal import ServiceLifecycle
internal import Synchronization
internal import UnixSignals

/// Every part of a server, put together and ready to run.
final class AssembledServer: Sendable {
  let pool: ConnectionPool
  /// Yields once, when the server listens.
  let addresses: AsyncThrowingStream<ComplianceServer.Address, any Error>
  let listening: AsyncThrowingStream<ComplianceServer.Address, any Error>.Continuation

  private let configuration: ComplianceServer.Configuration
  private let applications: [any Service]

  private static let connectionsMax = 4
  /// A connection on which nothing moves for this long is closed.
  private static let idleSecondsMax = 60
  private static let apiHeaders: HTTPFields = [HTTPField.Name("api-version")!: "2.168"]

  /// - Throws: `StartError`, `PostgreSQLError`.
  init(_ configuration: ComplianceServer.Configuration) async throws {
    self.configuration = configuration
    let pool = ConnectionPool(configuration.database, connectionsMax: Self.connectionsMax)
    let (addresses, listening) = AsyncThrowingStream<ComplianceServer.Address, any Error>
      .makeStream()
    let schema = Schema(pool: pool)
    try await schema.requireMigrated(to: configuration.migrations)
    let spool = try Spool(directory: configuration.spool)
    let store = JobStore(
      pool: pool,
      lifetimes: .init(
        upload: configuration.uploadLifetime, download: configuration.downloadLifetime))
    let metrics = Metrics()
    let processor = JobProcessor(store: store, spool: spool, configuration: configuration)
    let sweeper = Sweeper(
      store: store, spool: spool, processor: processor, interval: configuration.sweepInterval,
      logger: configuration.logger)
    let base = BaseURL(configuration.publicURL)
    let urls = SignedURLs(key: try await schema.signingKey(), baseURL: { base.value })
    let accessLog = configuration.accessLog.map { AccessLog(writeLine: $0) }

    let router = Router(context: ServiceContext.self)
    router.add(
      middleware: ServingMiddleware(
        metrics: metrics, accessLog: accessLog, headers: Self.apiHeaders))
    router.add(middleware: ProblemMiddleware(logger: configuration.logger))
    Routes(
      apps: Apps(configuration.tokens),
      rateLimits: configuration.rateLimit.map { RateLimits($0, epochSeconds: epochSeconds) },
      jobs: JobEndpoints(
        store: store, urls: urls, spool: spool, processor: processor,
        profile: configuration.profile, gate: configuration.gate),
      bytes: ByteEndpoints(
        store: store, urls: urls, spool: spool, processor: processor,
        uploadBytesMax: configuration.uploadBytesMax, gate: configuration.gate),
      pages: OperatorPages(
        guardian: AdminGuard(
          token: configuration.adminToken,
          isLocal: ComplianceServer.Address(host: configuration.host, port: 0).isLoopback),
        store: store, metrics: metrics),
      profile: configuration.profile
    ).add(to: router)

    self.pool = pool
    self.addresses = addresses
    self.listening = listening
    let logger = configuration.logger
    let api = Application(
      router: router,
      server: .http1(configuration: .init(idleTimeout: .seconds(Int64(Self.idleSecondsMax)))),
      configuration: .init(address: .hostname(configuration.host, port: configuration.port)),
      services: [processor, sweeper],
      onServerRunning: { channel in
        let address = ComplianceServer.Address(
          host: configuration.host, port: channel.localAddress?.port ?? configuration.port)
        base.listens(at: address)
        logger.notice("compliance-server listens on \(address.url)")
        listening.yield(address)
      },
      logger: Self.quiet(logger))
    applications = [api]
  }

  func group(stoppingOn signals: [UnixSignal]) -> ServiceGroup {
    var group = ServiceGroupConfiguration(
      services: applications, gracefulShutdownSignals: signals,
      logger: Self.quiet(configuration.logger))
    group.maximumGracefulShutdownDuration = configuration.shutdownPatience
    return ServiceGroup(configuration: group)
  }

  /// - Throws: `StartError` if the address is not to be had.
  func run(_ group: ServiceGroup) async throws {
    do {
      try await group.run()
    } catch let error as IOError {
      throw StartError(
        message:
          "cannot listen on \(configuration.host), port \(configuration.port): \(error)",
        remedy: "stop what listens there, or name another address with --listen")
    }
  }

  /// The frameworks' own lines are about themselves, so only their warnings are shown.
  private static func quiet(_ logger: Logger) -> Logger {
    var logger = logger
    logger.logLevel = max(logger.logLevel, .warning)
    return logger
  }
}

/// What URLs begin with: as configured, or where the server turned out to listen.
private final class BaseURL: Sendable {
  private let url: Mutex<String>
  private let isFixed: Bool

  init(_ publicURL: String?) {
    url = Mutex(publicURL ?? "")
    isFixed = publicURL != nil
  }

  var value: String { url.withLock { $0 } }

  func listens(at address: ComplianceServer.Address) {
    if !isFixed { url.withLock { $0 = address.url } }
  }
}
