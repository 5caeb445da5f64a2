import Definitions
import Ledger
import Logging
import Vocabulary

/// Waits for the one slot of a job type while a job that does not belong to the run holds it.
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

  /// Records that the run has the slot.
  func isFree() {
    (since, loggedAt, delaySeconds) = (nil, nil, settings.pollSeconds)
  }

  /// Waits with a growing delay, and logs every 15 minutes.
  /// - Returns: false if the slot was taken for too long. The wait for each later chunk then returns false, too.
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
    "wait for that job, or end it (lethe jobs list, lethe jobs cancel); the next lethe run asks again"
  }
}
