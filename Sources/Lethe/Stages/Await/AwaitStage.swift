public import ComplianceAPI
import CrashPoints
public import Ledger
public import Logging
import Vocabulary

/// Job → complete job: requests a job's status at the intervals of the settings, until the job has ended or takes too
/// long.
public struct AwaitStage: Sendable {
  private let ledger: ChunkLedger
  private let client: ComplianceClient
  private let settings: Settings
  private let logger: Logger

  public struct Settings: Sendable {
    let pollSeconds: Double
    let pollSecondsMax: Double
    let jobAttemptsMax: Int
    let jobHoursMax: Double

    public init(
      pollSeconds: Double, pollSecondsMax: Double, jobAttemptsMax: Int, jobHoursMax: Double
    ) {
      self.pollSeconds = pollSeconds
      self.pollSecondsMax = pollSecondsMax
      self.jobAttemptsMax = jobAttemptsMax
      self.jobHoursMax = jobHoursMax
    }
  }

  public enum Outcome: Sendable, Equatable {
    case complete
    /// The attempt failed, for example because the job ended without a result. The chunk has another attempt.
    case attemptFailed
    /// The chunk failed. The ledger has the reason.
    case failed
  }

  public init(
    ledger: ChunkLedger, client: ComplianceClient, settings: Settings, logger: Logger
  ) {
    self.ledger = ledger
    self.client = client
    self.settings = settings
    self.logger = logger
  }

  /// Takes a chunk from `uploaded` to `complete`.
  public func awaitCompletion(of chunk: Chunk) async throws -> Outcome {
    guard let attempt = try await ledger.liveAttempt(at: chunk), let apiID = attempt.apiID else {
      throw LedgerError(
        code: .missing, message: "\(chunk.label) is uploaded but has no job",
        remedy: "restore the ledger from a backup: it was changed by hand")
    }
    var seen: JobStatus?
    var delay = settings.pollSeconds
    var couldNotBeCancelled = false
    while true {
      let job: APIJob
      do {
        job = try await CrashStep.getCallByAwait.around { try await client.job(id: apiID) }
      } catch let error as APIError where error.kind == .notFound {
        return try await failed(
          attempt, of: chunk, why: "the API does not have job \(apiID) any more")
      } catch let error as APIError where error.kind == .jobRefused {
        _ = try await cancel(apiID)
        return try await failed(
          attempt, of: chunk, why: "the API does not report on job \(apiID): \(error.message)")
      }
      if job.status != seen {
        seen = job.status
        try await ledger.statusSeen(job.status, of: attempt)
        logger.info(
          "\(chunk.label): job \(apiID) is \(job.status)",
          metadata: chunk.metadata("await", job: apiID))
      }
      switch job.status {
      case .complete:
        try await ledger.jobCompleted(attempt, of: chunk)
        return .complete
      case .failed, .expired:
        let reason = job.error.map { ": \($0)" } ?? ""
        return try await failed(attempt, of: chunk, why: "job \(apiID) is \(job.status)\(reason)")
      case .created, .inProgress, .unrecognized:
        guard try await isOverdue(attempt) else { break }
        // A job that cannot be cancelled has ended, and the next status should show this. If the status does not show
        // it, the two calls contradict each other, and the attempt ends here. Otherwise this loop would never end.
        guard try await cancel(apiID) || couldNotBeCancelled else {
          couldNotBeCancelled = true
          break
        }
        return try await failed(
          attempt, of: chunk,
          why: "job \(apiID) was \(job.status) for over \(settings.jobHoursMax) hours")
      }
      try await Task.sleep(for: .seconds(delay))
      delay = min(delay * 1.5, settings.pollSecondsMax)
    }
  }

  /// - Returns: false if the job has already ended. Its status has to be requested again.
  private func cancel(_ apiID: String) async throws -> Bool {
    do {
      try await CrashStep.cancelCallByAwait.around { try await client.cancelJob(id: apiID) }
      return true
    } catch let error as APIError where error.kind == .conflict {
      return false
    } catch let error as APIError where [.notFound, .jobRefused].contains(error.kind) {
      // The API does not have the job any more, or refuses to cancel it. Then the slot becomes free when the job ends.
      return true
    }
  }

  private func isOverdue(_ attempt: Attempt) async throws -> Bool {
    guard let seconds = try await ledger.secondsSinceUpload(attempt) else { return false }
    return seconds > settings.jobHoursMax * 3600
  }

  private func failed(_ attempt: Attempt, of chunk: Chunk, why: String) async throws -> Outcome {
    let hasAnother = try await ledger.attemptFailed(
      attempt, of: chunk, why: why, attemptsMax: settings.jobAttemptsMax, stage: "await",
      logger: logger)
    return hasAnother ? .attemptFailed : .failed
  }
}
