import Logging
import PostgreSQL

/// Decides how a stage continues after it has lost its session. For example, the server was restarted, a standby was
/// promoted, or somebody terminated the session. The stage continues with the chunk states in the ledger.
///
/// There is no time limit. While the database is unavailable, the process cannot renew its lease, and the run ends when
/// the lease expires.
struct SessionLoss {
  /// The maximum number of session losses without a completed step in between. Without this limit, a statement that
  /// makes the server crash would be repeated forever.
  private static let lossesMax = 3
  private static let delaySecondsMax = 10.0

  private let stage: String
  private let logger: Logger
  private var losses = 0
  private var failures = 0

  init(of stage: String, logger: Logger) {
    (self.stage, self.logger) = (stage, logger)
  }

  /// The state after a completed step: the counts start again at 0.
  var afterStep: SessionLoss { SessionLoss(of: stage, logger: logger) }

  /// Waits before the next try of the stage.
  /// - Throws: `error` if the session was lost too often. A failure to connect does not count, nor does a standby that
  ///   is not promoted yet.
  mutating func wait(after error: PostgreSQLError) async throws {
    if error.code != .connectionFailed, !error.isOnStandby {
      losses += 1
      guard losses <= Self.lossesMax else { throw error }
    }
    failures += 1
    let longest = min(Double(1 << min(failures, 10)) / 4, Self.delaySecondsMax)
    let seconds = Double.random(in: 0.1...longest)
    logger.warning(
      """
      \(stage): the session with the database is lost (\(error.messageWithoutValues)); the stage continues with a \
      new session
      """, metadata: ["stage": "\(stage)"])
    try await Task.sleep(for: .seconds(seconds))
  }
}
