internal import FaultPlans
internal import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore
internal import Logging
internal import NIOCore
internal import ServiceLifecycle
internal import Synchronization
internal import UnixSignals

/// A server with all its parts, ready to run.
final class AssembledServer: Sendable {
  private let database: Database
  private let pool: ConnectionPool
  private let ownership: Ownership
  /// Yields the API's address once, when the server listens.
  let addresses: AsyncThrowingStream<ComplianceServer.Address, any Error>
  let listening: AsyncThrowingStream<ComplianceServer.Address, any Error>.Continuation

  private let configuration: ComplianceServer.Configuration
  private let applications: [any Service]

  private static let connectionsMax = 4
  private static let apiHeaders: HTTPFields = [HTTPField.Name("api-version")!: "2.168"]

  /// - Throws: `StartError`, `PostgreSQLError`.
  init(_ configuration: ComplianceServer.Configuration) async throws {
    self.configuration = configuration
    let base = try BaseURL(configuration.publicURL)
    let storageBase = try BaseURL(configuration.storagePublicURL)
    let (addresses, listening) = AsyncThrowingStream<ComplianceServer.Address, any Error>
      .makeStream()
    let database = Database(configuration.database)
    try await database.withConnection(as: "compliance-server: start", refusingPoolers: true) {
      try await Schema(session: $0).requireMigrated(to: configuration.migrations)
    }
    let ownership = try await Ownership(
      of: database,
      timeouts: .init(
        database: configuration.databaseTimeout, takeover: configuration.takeoverTimeout),
      logger: configuration.logger)
    let pool = ConnectionPool(
      connectionsMax: Self.connectionsMax, limit: configuration.databaseTimeout,
      connect: ownership.workingSession)
    await ownership.use(pool)
    let spool: Spool
    do {
      spool = try Spool(
        directory: await ownership.spoolDirectory(
          configuration.spool, in: configuration.stateDirectory))
    } catch {
      await ownership.close()
      throw error
    }
    let store = JobStore(
      pool: pool,
      lifetimes: .init(
        upload: configuration.uploadLifetime, download: configuration.downloadLifetime))
    let metrics = Metrics()
    let sessions = UploadSessions(
      pool: pool, lifetimeSeconds: configuration.sessionLifetime.components.seconds)
    let faults = configuration.faults.map {
      FaultInjector($0) { try await store.endUploadTime($0) }
    }
    let processor = JobProcessor(
      store: store, database: database, spool: spool, faults: faults, metrics: metrics,
      configuration: configuration)
    let sweeper = Sweeper(
      ownership: ownership, store: store, sessions: sessions, spool: spool, processor: processor,
      interval: configuration.sweepInterval,
      logger: configuration.logger)
    let key = try await pool.withConnection { try await Schema(session: $0).signingKey() }
    let urls = JobURLs(
      native: SignedURLs(key: key, baseURL: { base.value }),
      storage: StorageURLs(key: key, baseURL: { storageBase.value }))
    let accessLog = configuration.accessLog.map { AccessLog(writeLine: $0) }
    let servesStorage: Bool =
      if configuration.profile == .gcs || configuration.faults?.uses(profile: "gcs") == true {
        true
      } else {
        try await store.hasStorageJobs()
      }
    // A server with a public URL is not local, because other machines reach it through a proxy. The `Host` header does
    // not show this, because the proxy might send a loopback host.
    let isLocal =
      configuration.publicURL == nil
      && ComplianceServer.Address(host: configuration.host, port: 0).isLoopback

    let health = HealthChecks(
      pool: pool, spool: spool, timeout: configuration.healthTimeout)
    let pages = OperatorPages(
      access: AdminAccess(token: configuration.adminToken, isLocal: isLocal),
      store: store, processor: processor, health: health, metrics: metrics, faults: faults,
      profile: configuration.profile)
    let storageURL: @Sendable () -> String = { storageBase.value }
    let description = ServiceDescription(
      options: .init(
        profile: configuration.profile, hasRateLimit: configuration.rateLimit != nil,
        uploadBytesMax: configuration.uploadBytesMax,
        storageUploadBytesMax: configuration.storageUploadBytesMax,
        operatorsNeedToken: configuration.adminToken != nil,
        baseURL: { base.value }, storageURL: servesStorage ? storageURL : nil))
    let routes = Routes(
      apps: Apps(configuration.tokens),
      rateLimits: configuration.rateLimit.map { RateLimits($0) },
      jobs: JobEndpoints(
        store: store, urls: urls, spool: spool, processor: processor,
        profile: configuration.profile, gate: configuration.gate),
      bytes: ByteEndpoints(
        store: store, urls: urls, spool: spool, processor: processor,
        uploadBytesMax: configuration.uploadBytesMax, gate: configuration.gate),
      pages: pages, description: description,
      profile: configuration.profile, faults: faults
    ).all
    let router = Router(context: ServiceContext.self)
    router.add(
      middleware: ServingMiddleware(
        metrics: metrics, accessLog: accessLog, headers: Self.apiHeaders))
    router.add(
      middleware: ProblemMiddleware(logger: configuration.logger, methods: PathMethods(routes)))
    router.add(routes)

    self.database = database
    self.pool = pool
    self.ownership = ownership
    self.addresses = addresses
    self.listening = listening
    let logger = configuration.logger
    // The server is ready when all of its hosts listen.
    let waited = Mutex((left: servesStorage ? 2 : 1, api: ComplianceServer.Address?.none))
    let opened: @Sendable (ComplianceServer.Address, Bool) -> Void = { address, isAPI in
      let api = waited.withLock { waited -> ComplianceServer.Address? in
        waited.left -= 1
        if isAPI { waited.api = address }
        return waited.left == 0 ? waited.api : nil
      }
      guard let api else { return }
      logger.notice("compliance-server listens on \(api.url)")
      listening.yield(api)
    }
    var applications: [any Service] = [
      Self.application(
        router, host: configuration.host, port: configuration.port, logger,
        services: [processor, sweeper, health],
        .init(
          limits: configuration.connections, metrics: metrics,
          response: {
            var response = $0.plainResponse
            response.headers.append(contentsOf: Self.apiHeaders)
            return response
          })
      ) { address in
        base.listens(at: address)
        opened(address, true)
      }
    ]
    if servesStorage {
      let routes = StorageRoutes(
        endpoints: StorageEndpoints(
          store: store, sessions: sessions, urls: urls.storage, spool: spool, processor: processor,
          uploadBytesMax: configuration.storageUploadBytesMax, baseURL: { storageBase.value }),
        faults: faults
      ).all
      let storage = Router(context: ServiceContext.self)
      storage.add(
        middleware: ServingMiddleware(metrics: metrics, accessLog: accessLog, headers: [:]))
      storage.add(
        middleware: StorageProblemMiddleware(methods: PathMethods(routes)) { error in
          logger.error("a request to the storage host failed", metadata: ["error": "\(error)"])
        })
      storage.add(routes)
      applications.append(
        Self.application(
          storage, host: configuration.storageHost, port: configuration.storagePort, logger,
          .init(
            limits: configuration.connections, metrics: metrics,
            response: { StorageProblemMiddleware.converted($0).plainResponse })
        ) { address in
          storageBase.listens(at: address)
          opened(address, false)
        })
    }
    self.applications = applications
  }

  private static func application(
    _ router: Router<ServiceContext>, host: String, port: Int, _ logger: Logger,
    services: [any Service] = [], _ shared: ConnectionLimiter.Shared,
    _ opened: @escaping @Sendable (ComplianceServer.Address) -> Void
  ) -> some Service {
    Application(
      router: router,
      server: HTTPServerBuilder { LimitedHTTPChannel(shared, $0) },
      configuration: .init(
        address: .hostname(host, port: port),
        availableConnectionsDelegate: .maximum(shared.limits.connectionsMax, logger: quiet(logger))),
      services: services,
      onServerRunning: { channel in
        opened(.init(host: host, port: channel.localAddress?.port ?? port))
      },
      logger: quiet(logger))
  }

  /// Returns a group of all services of the server.
  /// - Parameter watchers: services that stop before all others.
  func group(
    stoppingOn signals: [UnixSignal], endingWith watchers: [any Service] = []
  ) -> ServiceGroup {
    let state: [any Service] = [
      DatabaseShutdown(database: database), OwnershipWatch(ownership: ownership),
    ]
    // The group stops its services one after another, in reverse order. So `DatabaseShutdown` stops last.
    var group = ServiceGroupConfiguration(
      services: state + applications + watchers, gracefulShutdownSignals: signals,
      logger: Self.quiet(configuration.logger))
    group.maximumGracefulShutdownDuration = configuration.shutdownTimeout
    return ServiceGroup(configuration: group)
  }

  /// Closes the database connections. Call this after the last request.
  func close() async {
    await pool.close()
    await ownership.close()
  }

  /// The addresses of the server, for messages.
  private var hosts: String {
    let api = "\(configuration.host), port \(configuration.port)"
    guard applications.count > 1 else { return api }
    return "\(api), or \(configuration.storageHost), port \(configuration.storagePort)"
  }

  /// Runs the services until they stop.
  /// - Throws: `StartError` if the server cannot listen on an address, or if another server becomes the owner of the
  ///   database; other errors of the services.
  func run(_ group: ServiceGroup) async throws {
    do {
      try await group.run()
    } catch let error as IOError {
      throw StartError(
        message:
          "cannot listen on \(hosts): \(error)",
        remedy:
          "stop the process that listens there, or name other addresses with --listen and --storage-listen"
      )
    } catch let error as SocketAddressError.UnknownHost {
      throw StartError(
        message: "cannot listen on \(error.host), port \(error.port): its address is unknown",
        remedy: "name an address of this machine with --listen and --storage-listen")
    }
  }

  /// Shows only the warnings and errors of the frameworks, because their other messages are about their internals.
  private static func quiet(_ logger: Logger) -> Logger {
    var logger = logger
    logger.logLevel = max(logger.logLevel, .warning)
    return logger
  }
}

/// The beginning of the URLs in responses: the configured URL, or the address on which the server listens.
private final class BaseURL: Sendable {
  private let url: Mutex<String>
  private let isFixed: Bool

  /// - Throws: `StartError`.
  init(_ publicURL: String?) throws {
    do {
      url = Mutex(try publicURL.map { try PublicURL($0).text } ?? "")
    } catch {
      throw StartError(
        message: "a public URL \(error)", remedy: "set it to the URL that clients use")
    }
    isFixed = publicURL != nil
  }

  var value: String { url.withLock { $0 } }

  func listens(at address: ComplianceServer.Address) {
    if !isFixed { url.withLock { $0 = address.url } }
  }
}
