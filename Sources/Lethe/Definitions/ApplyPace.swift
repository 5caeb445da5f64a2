/// How much apply slows down for other sessions, standbys and the WAL archive. It always comes from the current file,
/// so it is not part of a `Definition`. A property that is nil sets no bound.
public struct ApplyPace: Sendable, Equatable {
  /// How far behind a standby may be.
  public enum ReplicaLag: Sendable, Equatable, CustomStringConvertible {
    /// `replay_lag` of `pg_stat_replication`.
    case time(TimeSpan)
    /// WAL that the standby has not replayed yet.
    case size(ByteSize)

    init?(_ text: String) {
      if let time = TimeSpan(text) {
        self = .time(time)
      } else if let size = ByteSize(text) {
        self = .size(size)
      } else {
        return nil
      }
    }

    public var description: String {
      switch self {
      case .time(let time): "\(time)"
      case .size(let size): "\(size)"
      }
    }
  }

  /// The pause after each transaction.
  public var pauseMilliseconds: Int?
  /// The maximum number of rows of the warehouse that apply changes in a second, in all tables together.
  public var rowsPerSecond: Int?
  public var replicaLagMax: ReplicaLag?
  /// The `application_name` of each standby whose lag counts. Empty for all standbys.
  public var replicas: [String]
  /// If all sessions of the server together write more WAL than this in a second, apply waits. Apply also waits while
  /// the WAL archive lags.
  public var walRateMax: ByteSize?

  /// The maximum length of one wait. After it, apply continues.
  public static let waitSecondsMax = 600

  public init(
    pauseMilliseconds: Int? = nil, rowsPerSecond: Int? = nil, replicaLagMax: ReplicaLag? = nil,
    replicas: [String] = [], walRateMax: ByteSize? = nil
  ) {
    self.pauseMilliseconds = pauseMilliseconds
    self.rowsPerSecond = rowsPerSecond
    self.replicaLagMax = replicaLagMax
    self.replicas = replicas
    self.walRateMax = walRateMax
  }

  /// Whether apply never waits.
  public var isOff: Bool {
    pauseMilliseconds == nil && rowsPerSecond == nil && replicaLagMax == nil && walRateMax == nil
  }
}
