import Logging
import PostgreSQL

/// Decides how a stage continues after it has lost its session: the server was restarted, a standby was promoted, or
/// somebody terminated the session. Everything that the stage needs is in the ledger, so it starts again from there.
///
/// There is no limit of time: while the database is out of reach, the lease of the process runs out, and that ends the
/// run.
struct SessionLoss {
  /// How often in a row the session may be lost while the same statement runs. A statement that makes the server crash
  /// would do so for ever.
  private static let lossesMax = 3
  private static let delaySecondsMax = 10.0

  private let stage: String
  private let logger: Logger
  private var losses = 0
  private var failures = 0

  init(of stage: String, logger: Logger) {
    (self.stage, self.logger) = (stage, logger)
  }

  /// Records that the stage has done a step with its session.
  mutating func stepDone() {
    (losses, failures) = (0, 0)
  }

  /// Waits until the stage may try again.
  /// - Throws: the error, if another try would not help.
  mutating func wait(after error: PostgreSQLError) async throws {
    if error.code != .connectionFailed {
      losses += 1
      guard losses <= Self.lossesMax else { throw error }
    }
    failures += 1
    let longest = min(Double(1 << min(failures, 10)) / 4, Self.delaySecondsMax)
    let seconds = Double.random(in: 0.1...longest)
    logger.warning(
      """
      \(stage): the session with the database is lost (\(error.messageWithoutValues)); the stage continues with a \
      new one
      """, metadata: ["stage": "\(stage)"])
    try await Task.sleep(for: .seconds(seconds))
  }
}
