public import Logging
public import Migrations
public import PostgreSQL
public import SystemPackage

extension ComplianceServer {
  public typealias Gate = @Sendable (ServicePoint) async -> Void

  /// What a server is told when it starts.
  public struct Configuration: Sendable {
    public var database: ConnectionString
    /// Each names an App; none sees another's jobs.
    public var tokens: [AppToken]
    /// Where uploads and results are kept. Made if missing; it belongs to one server at a time.
    public var spool: FilePath

    public var host = "127.0.0.1"
    /// 0 takes any free port.
    public var port = 0
    /// What byte URLs begin with, where clients reach the server under another address than it
    /// listens on. No slash at its end.
    public var publicURL: String?
    /// If given, the server refuses to start while one of these is not applied.
    public var migrations: MigrationSet?

    /// Both count from the job's creation.
    public var uploadLifetime: Duration = .seconds(15 * 60)
    public var downloadLifetime: Duration = .seconds(7 * 24 * 60 * 60)
    public var uploadBytesMax = 128_000_000
    /// How often unused jobs are expired and files of no more use are removed.
    public var sweepInterval: Duration = .seconds(5)
    /// How many jobs are processed at the same time.
    public var processingMax = 2
    /// How long requests that are under way may take once the server was told to stop.
    public var shutdownPatience: Duration = .seconds(5)

    public var logger: Logger
    /// Awaited at each point; nil in production. It has to return once its task is cancelled, or a
    /// server that was interrupted never ends.
    public var gate: Gate?

    public init(
      database: ConnectionString, tokens: [AppToken], spool: FilePath,
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

    /// Such as `http://127.0.0.1:8080`, without a slash at its end.
    public var url: String { "http://\(host.contains(":") ? "[\(host)]" : host):\(port)" }
  }
}

/// Why the server did not start, and what to do about it.
public struct StartError: Error, Sendable, CustomStringConvertible {
  public let message: String
  public let remedy: String

  public var description: String { "\(message)\n  remedy: \(remedy)" }
}
