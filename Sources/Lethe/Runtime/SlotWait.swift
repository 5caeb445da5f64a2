import Definitions
import Ledger
import Logging
import Vocabulary

/// Waits for the one slot of a job type while a process of another pipeline, or a job that the chunk cannot use, holds
/// it.
actor SlotWait {
  private let type: JobType
  private let settings: APISettings
  private let logger: Logger
  private var since: ContinuousClock.Instant?
  private var loggedAt: ContinuousClock.Instant?
  private var delaySeconds: Double

  private static let logInterval = Duration.seconds(900)

  init(type: JobType, settings: APISettings, logger: Logger) {
    (self.type, self.settings, self.logger) = (type, settings, logger)
    delaySeconds = settings.pollSeconds
  }

  /// Ends the current wait, because the run has the slot. The next wait starts again at 0.
  func reset() {
    (since, loggedAt, delaySeconds) = (nil, nil, settings.pollSeconds)
  }

  /// Waits once. Each call waits longer than the one before, up to a limit. Logs at most every 15 minutes.
  /// - Returns: false if the slot was taken for too long. Then the wait for each later chunk also returns false, until
  ///   `reset` is called.
  func wait(for chunk: Chunk, _ holder: String) async throws -> Bool {
    let now = ContinuousClock.now
    let begin = since ?? now
    since = begin
    guard (now - begin) / .seconds(3600) < settings.slotHoursMax else { return false }
    if loggedAt.map({ now - $0 >= Self.logInterval }) ?? true {
      loggedAt = now
      let minutes = Int((now - begin) / .seconds(60))
      logger.notice(
        """
        \(chunk.label): the slot for \(type.rawValue) is taken by \(holder)\
        \(minutes > 0 ? " for \(minutes) minutes" : ""); waiting
        """)
    }
    try await Task.sleep(for: .seconds(delaySeconds))
    delaySeconds = min(delaySeconds * 1.5, settings.pollSecondsMax)
    return true
  }

  nonisolated func why(_ holder: String) -> String {
    "the slot for \(type.rawValue) was taken by \(holder) for over \(settings.slotHoursMax) hours"
  }

  nonisolated var remedy: String {
    "wait until that job ends, or cancel it (lethe jobs list, lethe jobs cancel); the next lethe run asks again"
  }
}
