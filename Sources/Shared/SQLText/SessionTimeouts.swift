/// How long the statements of a session may take, and how long a change of rows may wait for somebody's
/// lock.
public struct SessionTimeouts: Sendable, Hashable {
  /// Nil is no limit.
  public let statementSeconds: Double?
  /// The session's own `lock_timeout` is none: whoever changes somebody's rows sets this for his transaction.
  public let lockSeconds: Double
  /// What sets `statementSeconds`, for messages.
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

  /// As PostgreSQL takes `lock_timeout`.
  public var lockTimeout: String { "\(Self.milliseconds(lockSeconds))ms" }

  /// As PostgreSQL takes `statement_timeout`; 0 is none.
  package var statementTimeout: String { "\(statementSeconds.map(Self.milliseconds) ?? 0)ms" }

  /// Never 0, which would be none.
  private static func milliseconds(_ seconds: Double) -> Int {
    max(1, Int(min(seconds * 1000, Double(Int32.max))))
  }
}
