public import Failures
public import FaultPlans
public import Logging
public import Migrations
public import PostgreSQL
public import SystemPackage

extension ComplianceServer {
  public typealias Gate = @Sendable (ServicePoint) async -> Void

  /// So many requests in so many seconds.
  public struct RateLimit: Sendable {
    public let requestsMax: Int
    public let windowSeconds: Int

    public init(requestsMax: Int, windowSeconds: Int = 15 * 60) {
      self.requestsMax = requestsMax
      self.windowSeconds = windowSeconds
    }
  }

  /// What a server is told when it starts.
  public struct Configuration: Sendable {
    public var database: ConnectionString
    /// Each names an App; none sees another's jobs.
    public var tokens: [AppToken]
    /// Where uploads and results are kept. Made if missing; it belongs to one database. Nil takes a folder below
    /// `stateDirectory` that is named for the database.
    public var spool: FilePath?
    /// Absolute.
    public var stateDirectory = FilePath("/var/lib/compliance-server")

    public var host = "127.0.0.1"
    /// 0 takes any free port.
    public var port = 0
    /// What byte URLs begin with, where clients reach the server under another address than it
    /// listens on; see `PublicURL`.
    public var publicURL: String?
    /// How the bytes of new jobs travel.
    public var profile = WireProfile.native
    /// The words of results.
    public var vocabulary = ResultVocabulary.overview
    /// Where the bytes of the gcs profile are served: another host than the API's.
    public var storageHost = "127.0.0.2"
    /// 0 takes any free port.
    public var storagePort = 0
    /// What the byte URLs of the gcs profile begin with; as `publicURL`.
    public var storagePublicURL: String?
    /// If given, the server refuses to start while one of these is not applied.
    public var migrations: MigrationSet?

    /// Both count from the job's creation.
    public var uploadLifetime: Duration = .seconds(15 * 60)
    public var downloadLifetime: Duration = .seconds(7 * 24 * 60 * 60)
    /// How long a resumable upload can be gone on with, from its begin.
    public var sessionLifetime: Duration = .seconds(7 * 24 * 60 * 60)
    public var uploadBytesMax = 128_000_000
    /// The same for the gcs profile.
    public var storageUploadBytesMax = 1_000_000_000
    /// For each endpoint and App; nil is no limit.
    public var rateLimit: RateLimit? = RateLimit(requestsMax: 150)
    /// Opens the operator's pages. Without one they are served only by a server that listens on a
    /// loopback address, has no public URL, and is asked under a name of loopback.
    public var adminToken: AppToken?
    public var connections = ConnectionLimits()
    /// How often unused jobs are expired and files of no more use are removed.
    public var sweepInterval: Duration = .seconds(5)
    /// How many jobs are processed at the same time.
    public var processingMax = 2
    /// Up to so many IDs of a submission are looked up one by one; for more, the platform's events of
    /// their whole range are read, which is faster then.
    public var lookUpsMax = 50_000
    /// How many IDs of a submission are kept in memory, 8 bytes each; more are sorted in files.
    public var idsInMemoryMax = 4_000_000
    /// How long the health pages wait for the database and the spool: whoever asks gives up after a second.
    public var healthPatience: Duration = .milliseconds(700)
    /// How long the database may take to answer before a session with it is given up. Its statements end by themselves
    /// after 30 seconds, where it still answers at all.
    public var databasePatience: Duration = .seconds(35)
    /// How long a server that starts waits for the sessions of an earlier one that it may not end.
    public var takeoverPatience: Duration = .seconds(20)
    /// How long requests that are under way may take once the server was told to stop.
    public var shutdownPatience: Duration = .seconds(5)

    /// What goes wrong on purpose.
    public var faults: FaultPlan?

    public var logger: Logger
    /// Takes a line of JSON for each request that was answered, without its query and its tokens.
    public var accessLog: (@Sendable (String) -> Void)?
    /// Awaited at each point; nil in production. It has to return once its task is cancelled, or a
    /// server that was interrupted never ends.
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

  /// Where a server listens.
  public struct Address: Sendable, Hashable {
    public let host: String
    public let port: Int

    /// Only this machine reaches it.
    var isLoopback: Bool { ComplianceService.isLoopback(host: host) }

    /// Such as `http://127.0.0.1:8080`, without a slash at its end.
    public var url: String {
      let name = host.contains(":") ? "[\(host)]" : host.lowercased()
      // Clients leave it out of `Host`, by which a URL is signed.
      return port == 80 ? "http://\(name)" : "http://\(name):\(port)"
    }
  }
}

/// Why the server did not start, and what to do about it.
public struct StartError: ExplainedError, Sendable {
  public let message: String
  public let remedy: String
  public var disposition: Disposition { .failed }
}
