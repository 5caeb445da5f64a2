/// How long a statement of a session is allowed to take, and how long a change of rows is allowed to wait for a lock.
public struct SessionTimeouts: Sendable, Hashable {
  /// Nil means no limit.
  public let statementSeconds: Double?
  /// A transaction that changes the warehouse's rows sets its `lock_timeout` to this value. The session itself has no
  /// `lock_timeout`.
  public let lockSeconds: Double
  /// The name of the setting from which `statementSeconds` comes. Messages show the name.
  package let statementName: String

  public static let lockSecondsDefault = 5.0

  public init(
    statementSeconds: Double? = nil, lockSeconds: Double = SessionTimeouts.lockSecondsDefault,
    statementName: String = "statement_timeout"
  ) {
    self.statementSeconds = statementSeconds
    self.lockSeconds = lockSeconds
    self.statementName = statementName
  }

  /// The value for PostgreSQL's `lock_timeout`.
  public var lockTimeout: String { "\(Self.milliseconds(lockSeconds))ms" }

  /// The value for PostgreSQL's `statement_timeout`; 0 means no limit.
  package var statementTimeout: String { "\(statementSeconds.map(Self.milliseconds) ?? 0)ms" }

  /// At least 1, because 0 means no limit.
  private static func milliseconds(_ seconds: Double) -> Int {
    max(1, Int(min(seconds * 1000, Double(Int32.max))))
  }
}
