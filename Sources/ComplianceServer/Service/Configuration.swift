public import Failures
public import FaultPlans
public import Logging
public import Migrations
public import PostgreSQL
public import SystemPackage

extension ComplianceServer {
  public typealias Gate = @Sendable (ServicePoint) async -> Void

  /// A limit of `requestsMax` requests in `windowSeconds`.
  public struct RateLimit: Sendable {
    public let requestsMax: Int
    public let windowSeconds: Int

    public init(requestsMax: Int, windowSeconds: Int = 15 * 60) {
      self.requestsMax = requestsMax
      self.windowSeconds = windowSeconds
    }
  }

  /// The settings of a server.
  public struct Configuration: Sendable {
    public var database: ConnectionString
    /// Each token belongs to an App. An App cannot see the jobs of other Apps.
    public var tokens: [AppToken]
    /// The directory of submissions and results. It is created if missing, and belongs to one database. Nil means a
    /// directory in `stateDirectory`. Its name contains a random ID, which the database stores.
    public var spool: FilePath?
    /// The absolute path of the directory that contains the default spool directories.
    public var stateDirectory = FilePath("/var/lib/compliance-server")

    public var host = "127.0.0.1"
    /// The port; 0 means any free port.
    public var port = 0
    /// The base of upload and download URLs, if clients do not use the address on which the server listens. See
    /// `PublicURL`.
    public var publicURL: String?
    /// The wire profile of new jobs.
    public var profile = WireProfile.native
    /// The actions and reasons that results contain.
    public var vocabulary = ResultVocabulary.overview
    /// The storage host of the gcs profile. This host or `storagePort` must differ from the API's.
    public var storageHost = "127.0.0.2"
    /// The port of the storage host; 0 means any free port.
    public var storagePort = 0
    /// Like `publicURL`, for the storage host.
    public var storagePublicURL: String?
    /// The migrations that must be applied; otherwise the server does not start. Nil means that only the existence of
    /// the tables is checked.
    public var migrations: MigrationSet?

    /// How long a job accepts its upload after the job's creation. A resumable upload only has to begin in this time.
    public var uploadLifetime: Duration = .seconds(15 * 60)
    /// How long a result can be downloaded after its job's creation.
    public var downloadLifetime: Duration = .seconds(7 * 24 * 60 * 60)
    /// How long a resumable upload can continue after its start, unless it is abandoned (see `JobStore.expireUnused`).
    public var sessionLifetime: Duration = .seconds(7 * 24 * 60 * 60)
    /// The largest size of an upload in the native profile.
    public var uploadBytesMax = 128_000_000
    /// The largest size of an upload in the gcs profile.
    public var storageUploadBytesMax = 1_000_000_000
    /// The limit for each endpoint and App; nil means no limit.
    public var rateLimit: RateLimit? = RateLimit(requestsMax: 150)
    /// The token for the operator's pages. Without a token, the pages are available only if the server listens on a
    /// loopback address and has no public URL, and only to requests that name a loopback host.
    public var adminToken: AppToken?
    public var connections = ConnectionLimits()
    /// How often unused jobs are expired and unneeded files are removed.
    public var sweepInterval: Duration = .seconds(5)
    /// How many jobs are processed at the same time.
    public var processingMax = 2
    /// If a submission has at most this many IDs, they are looked up one by one. For more IDs, it is faster to read all
    /// events of their range.
    public var lookUpsMax = 50_000
    /// How many IDs of a submission may be in memory, 8 bytes each. A larger submission is read from files.
    public var idsInMemoryMax = 4_000_000
    /// How long the health pages wait for the database and the spool. Many health checks give up after a second, so
    /// this time is shorter.
    public var healthTimeout: Duration = .milliseconds(700)
    /// How long the database may take to respond before the server closes the session forcibly. This is longer than
    /// the statement timeout of 30 seconds, so that a database that still works cancels the statement first. The limit
    /// does not apply to the sessions that process jobs.
    public var databaseTimeout: Duration = .seconds(35)
    /// How long a new server waits until the sessions of an earlier server end, for example if the new server's role
    /// lacks the privilege to terminate them.
    public var takeoverTimeout: Duration = .seconds(20)
    /// How long current requests may take after the server gets the signal to stop.
    public var shutdownTimeout: Duration = .seconds(5)

    /// The faults to inject.
    public var faults: FaultPlan?

    public var logger: Logger
    /// Called with a line of JSON for each request with a valid head. The line contains neither the query nor the
    /// tokens.
    public var accessLog: (@Sendable (String) -> Void)?
    /// Called at each `ServicePoint`; nil in production. The service waits until the call returns. The call must return
    /// when its task is cancelled. Otherwise the server cannot stop.
    public var gate: Gate?

    public init(
      database: ConnectionString, tokens: [AppToken], spool: FilePath?,
      logger: Logger = Logger(label: "compliance-server")
    ) {
      self.database = database
      self.tokens = tokens
      self.spool = spool
      self.logger = logger
    }
  }

  /// The address on which a server listens.
  public struct Address: Sendable, Hashable {
    public let host: String
    public let port: Int

    /// Whether only this machine can reach the address.
    var isLoopback: Bool { ComplianceService.isLoopback(host: host) }

    /// Such as `http://127.0.0.1:8080`, without a slash at the end.
    public var url: String {
      let name = host.contains(":") ? "[\(host)]" : host.lowercased()
      // The signature of a storage URL covers `Host`, and clients leave out port 80 in `Host`.
      return port == 80 ? "http://\(name)" : "http://\(name):\(port)"
    }
  }
}

/// Why the server did not start or could not continue, and how to fix it.
public struct StartError: ExplainedError, Sendable {
  public let message: String
  public let remedy: String
  public var disposition: Disposition { .failed }
}
