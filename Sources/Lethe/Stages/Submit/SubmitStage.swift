import ChunkFiles
public import ComplianceAPI
import CrashPoints
internal import Failures
import Foundation
public import Ledger
public import Logging
import PostgreSQL
import SystemPackage
import Vocabulary
import WorkFiles

/// Chunk → job: creates a job for a chunk and uploads the chunk's file.
///
/// The intent is recorded in the ledger before the API is called, and the job's name contains the chunk's ID. So,
/// after an interrupted creation, the job is found in the list of jobs by its name and adopted.
public struct SubmitStage: Sendable {
  private let ledger: ChunkLedger
  private let client: ComplianceClient
  private let jobAttemptsMax: Int
  private let lease: any LeaseStatus
  private let logger: Logger

  /// The maximum number of tries of a creation after temporary errors. After that, `submit` throws the error.
  private static let creationTriesMax = 6
  /// The maximum number of tries of a creation if the slot is taken, but no active job is in the list of jobs. After
  /// that, `submit` returns `.slotTaken`, and the slot is waited for as if an active job were listed.
  private static let unlistedJobTriesMax = 2
  /// The maximum number of fresh URLs of the same job with which an upload continues.
  private static let freshURLsMax = 2
  /// The tolerance when a job's creation time is checked for plausibility.
  private static let clockToleranceSeconds = 300.0

  public enum Outcome: Sendable, Equatable {
    /// The chunk's file is uploaded.
    case uploaded
    /// A job that does not belong to the chunk holds the type's slot. The text names the job.
    case slotTaken(by: String)
    /// The attempt failed. The chunk has another attempt.
    case attemptFailed
    /// The chunk was cut into two chunks, because the host has refused it, or a chunk of about the same size or
    /// smaller, as too large.
    case cut
    /// The chunk's file is lost. It has to be written again first.
    case fileLost(String)
    /// The chunk failed. The ledger has the reason.
    case failed
  }

  public init(
    ledger: ChunkLedger, client: ComplianceClient, jobAttemptsMax: Int, logger: Logger,
    lease: any LeaseStatus
  ) {
    self.lease = lease
    self.ledger = ledger
    self.client = client
    self.jobAttemptsMax = jobAttemptsMax
    self.logger = logger
  }

  /// Takes a chunk from `exported` or `created` to `uploaded`.
  public func submit(_ chunk: Chunk) async throws -> Outcome {
    do {
      _ = try ChunkIndex(verifying: chunk.file)
    } catch let error as ChunkFileError where error.code == .lost {
      return try await fileLost(chunk, error)
    }
    let attempt: Attempt
    let job: APIJob
    if let known = try await ledger.liveAttempt(at: chunk), let apiID = known.apiID {
      attempt = known
      do {
        job = try await CrashStep.getCallBySubmit.around { try await client.job(id: apiID) }
      } catch let error as APIError where error.kind == .notFound {
        return try await failed(known, of: chunk, why: "the API does not have the job any more")
      } catch let error as APIError where error.kind == .jobRefused {
        return try await cancel(apiID, known, of: chunk, why: error.message)
      }
      logger.notice("\(chunk.label): job \(apiID) is \(job.status); continuing with it")
    } else {
      if try await ledger.liveAttempt(at: chunk) == nil,
        let outcome = try await cutBeforeUpload(chunk)
      {
        return outcome
      }
      switch try await create(for: chunk) {
      case .job(let created, let itsAttempt): (job, attempt) = (created, itsAttempt)
      case .slotTaken(let activeJob): return .slotTaken(by: activeJob)
      case .none(let attempt, let why):
        let outcome = try await failed(attempt, of: chunk, why: why)
        // The caller creates the next job immediately. Without this pause, a faulty API would be called in a
        // tight loop.
        try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: attempt.number)))
        return outcome
      }
    }
    return try await upload(chunk, attempt, job)
  }

  /// Handles a lost file. The file can be written again only if no job exists that could have the old file.
  private func fileLost(_ chunk: Chunk, _ error: ChunkFileError) async throws -> Outcome {
    guard let attempt = try await ledger.liveAttempt(at: chunk), let apiID = attempt.apiID else {
      return .fileLost(error.message)
    }
    return try await cancel(apiID, attempt, of: chunk, why: error.summary)
  }

  private var orphans: OrphanedJobs {
    OrphanedJobs(ledger: ledger, client: client, logger: logger)
  }

  // MARK: Creating

  private enum Creation {
    case job(APIJob, Attempt)
    case slotTaken(String)
    /// There is no usable job. The text is the cause.
    case none(Attempt, String)
  }

  private func create(for chunk: Chunk) async throws -> Creation {
    let attempt: Attempt
    if let interrupted = try await ledger.liveAttempt(at: chunk) {
      attempt = interrupted
      if let job = try await find(attempt, of: chunk) {
        return try await adopt(job, attempt, chunk)
      }
    } else {
      attempt = try await ledger.jobIntended(for: chunk)
    }
    for tries in 1... {
      do {
        let job = try await CrashStep.createCall.around {
          try await client.createJob(type: chunk.type, name: attempt.name)
        }
        logger.info(
          "\(chunk.label): job \(job.id) created",
          metadata: chunk.metadata("submit", job: job.id))
        if let why = Self.whyNotOurs(job, chunk) {
          return try await leave(job, attempt, chunk, why)
        }
        do {
          return .job(job, try await recorded(job, attempt, chunk))
        } catch let error as LedgerError where error.code == .leaseLost {
          await orphans.undo(attempt.name, job.id, for: chunk, lease)
          throw error
        } catch let error as PostgreSQLError where error.isLossOfSession {
          // A process that takes over terminates the sessions of this one.
          if await lease.checkIsLost() {
            await orphans.undo(attempt.name, job.id, for: chunk, lease)
          }
          throw error
        }
      } catch let error as CancellationError {
        if await lease.checkIsLost() { await orphans.undo(attempt.name, nil, for: chunk, lease) }
        throw error
      } catch let error as DuplicateJobID {
        return try await withoutUsableResponse(attempt, chunk, why: error.why)
      } catch let error as APIError where error.kind == .jobRefused {
        return try await withoutUsableResponse(attempt, chunk, why: error.message)
      } catch let error as APIError where error.kind == .temporary {
        // Without a usable response, it is unknown whether the job was created. The API may still be creating it, so
        // the search comes directly before the next creation.
        logger.notice(
          """
          \(chunk.label): \(error.operation): \(error.message); the job might have been created, searching for it
          """)
        try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: tries)))
        if let job = try await find(attempt, of: chunk) {
          return try await adopt(job, attempt, chunk)
        }
        guard tries < Self.creationTriesMax else { throw error }
      } catch let error as APIError where error.kind == .conflict {
        let jobs = try await CrashStep.listCallOfSlot.around {
          try await client.jobs(type: chunk.type)
        }
        if let job = jobs.first(where: { $0.name == attempt.name }) {
          return try await adopt(job, attempt, chunk)
        }
        if tries < Self.creationTriesMax, try await orphans.cancel(among: jobs, for: chunk) {
          continue
        }
        guard let activeJob = jobs.first(where: { $0.status.isActive }) else {
          guard tries < Self.unlistedJobTriesMax else {
            return .slotTaken("a job that is not in the API's list of jobs")
          }
          // The job that held the slot ended between the two calls, or the list of jobs is not up to date.
          try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: tries)))
          continue
        }
        return .slotTaken("job \(activeJob.id)\(activeJob.name.map { " (\($0))" } ?? "")")
      }
    }
    preconditionFailure("the loop above only ends by returning or throwing")
  }

  /// Handles a response without a usable job. The list of jobs may contain the created job.
  private func withoutUsableResponse(
    _ attempt: Attempt, _ chunk: Chunk, why: String
  ) async throws -> Creation {
    logger.notice(
      "\(chunk.label): \(why); searching for the job",
      metadata: chunk.metadata("submit", job: attempt.name))
    guard let job = try await find(attempt, of: chunk) else { return .none(attempt, why) }
    return try await adopt(job, attempt, chunk)
  }

  /// Checks that a job can belong to the chunk. Lethe uploads only after the ledger has the job's ID. A job that
  /// already has an upload is about other IDs. In its result, this chunk's IDs would be missing, and would
  /// count as clean.
  /// - Returns: why the job does not belong to the chunk. Nil if it may belong to it.
  private static func whyNotOurs(_ job: APIJob, _ chunk: Chunk) -> String? {
    if let type = job.type, type != chunk.type {
      return
        "job \(job.id) has the type \(type.rawValue), but \(chunk.type.rawValue) was requested"
    }
    return switch job.status {
    case .inProgress, .complete:
      "job \(job.id) is \(job.status), but nothing was uploaded to it for this chunk"
    case .created, .failed, .expired, .unrecognized: nil
    }
  }

  private func leave(
    _ job: APIJob, _ attempt: Attempt, _ chunk: Chunk, _ why: String
  ) async throws -> Creation {
    // A job with another name may belong to another program, so it is not cancelled.
    if job.name == attempt.name { try await cancelJobToFreeSlot(job.id, chunk) }
    return .none(attempt, why)
  }

  private func recorded(
    _ job: APIJob, _ attempt: Attempt, _ chunk: Chunk
  ) async throws -> Attempt {
    try await ledger.jobCreated(
      attempt, of: chunk, apiID: job.id, at: try await plausibleTime(of: job, attempt, chunk),
      uploadHost: job.uploadHost)
  }

  /// The job's creation time from the API, if it is plausible. The answers of jobs are ordered by this time.
  /// With a time in the future, a job's answers would supersede the answers of later jobs.
  private func plausibleTime(
    of job: APIJob, _ attempt: Attempt, _ chunk: Chunk
  ) async throws -> Timestamp? {
    guard let time = job.createdAt else { return nil }
    let ageSeconds = (await client.now).timeIntervalSince1970 - time.secondsSince1970
    let ageSecondsMax = try await ledger.secondsSinceIntent(attempt)
    let tolerance = Self.clockToleranceSeconds
    if (-tolerance...ageSecondsMax + tolerance).contains(ageSeconds) { return time }
    logger.warning(
      """
      \(chunk.label): the API's creation time of job \(job.id) is \(Int(abs(ageSeconds))) s \
      \(ageSeconds < 0 ? "in the future" : "ago"), which is impossible; the current time is used
        remedy: none if the API's clock is wrong; otherwise, set this machine's clock by NTP
      """, metadata: chunk.metadata("submit", job: job.id))
    return nil
  }

  private func find(_ attempt: Attempt, of chunk: Chunk) async throws -> APIJob? {
    try await CrashStep.listCallByName.around { try await client.jobs(type: chunk.type) }
      .first { $0.name == attempt.name }
  }

  private func adopt(_ job: APIJob, _ attempt: Attempt, _ chunk: Chunk) async throws -> Creation {
    if let why = Self.whyNotOurs(job, chunk) { return try await leave(job, attempt, chunk, why) }
    let itsAttempt: Attempt
    do {
      itsAttempt = try await recorded(job, attempt, chunk)
    } catch let error as DuplicateJobID {
      return .none(attempt, error.why)
    }
    logger.notice(
      "\(chunk.label): job \(job.id) was created before and is adopted",
      metadata: chunk.metadata("submit", job: job.id))
    return .job(job, itsAttempt)
  }

  // MARK: Uploading

  /// - Parameter freshURLs: how many fresh upload URLs the job has had since this process began its upload.
  private func upload(
    _ chunk: Chunk, _ attempt: Attempt, _ job: APIJob, freshURLs: Int = 0
  ) async throws -> Outcome {
    switch job.status {
    case .created: break
    case .inProgress, .complete:
      // The file was uploaded before, but the process ended or lost its session before it recorded the upload.
      try await ledger.fileUploaded(attempt, of: chunk)
      return .uploaded
    case .failed, .expired:
      return try await failed(
        attempt, of: chunk, why: "the job is \(job.status)\(job.error.map { ": \($0)" } ?? "")")
    case .unrecognized(let status):
      return try await cancel(
        job.id, attempt, of: chunk, why: "the job has the unknown status \(status)")
    }
    guard let url = job.uploadURL else {
      return try await cancel(job.id, attempt, of: chunk, why: "the job has no upload URL")
    }
    if let expiry = job.uploadExpiresAt,
      expiry.secondsSince1970 < (await client.now).timeIntervalSince1970
    {
      return try await cancel(job.id, attempt, of: chunk, why: "the job's upload URL has expired")
    }
    do {
      try await CrashStep.uploadCall.around {
        try await client.upload(
          file: FilePath(chunk.path), bytes: chunk.bytes, to: url, job: job.id)
      }
    } catch let error as APIError {
      return try await uploadFailed(error, chunk, attempt, job, freshURLs: freshURLs)
    } catch let error as WorkFileError where error.isOfLostFile {
      return try await cancel(job.id, attempt, of: chunk, why: error.summary)
    }
    try await ledger.fileUploaded(attempt, of: chunk)
    logger.info(
      "\(chunk.label): \(chunk.bytes) bytes uploaded to job \(job.id)",
      metadata: chunk.metadata("submit", job: job.id))
    return .uploaded
  }

  /// Handles a failed upload. The response to an upload can be lost. The job's status shows whether the
  /// upload arrived.
  private func uploadFailed(
    _ error: APIError, _ chunk: Chunk, _ attempt: Attempt, _ job: APIJob, freshURLs: Int
  ) async throws -> Outcome {
    switch error.kind {
    case .hostNotAllowed, .credentials, .creditsDepleted, .capped, .redirected,
      .proxyRefused, .wrongProxyProtocol, .clientCertificateRequired, .untrusted, .unknownHost,
      .incompleteResult, .noResult:
      throw error
    // The host has stored other bytes, or does not confirm what it stored. So the job's result might not be about the
    // sent IDs.
    case .unconfirmed: return try await cancel(job.id, attempt, of: chunk, why: error.message)
    case .tooLarge: return try await cut(chunk, attempt, job, error)
    case .invalidRequest, .jobRefused, .urlRefused, .notFound, .conflict, .rateLimited,
      .temporary:
      break
    }
    let status: JobStatus
    do {
      let current = try await CrashStep.getCallAfterUpload.around {
        try await client.job(id: job.id)
      }
      if error.kind == .urlRefused, freshURLs < Self.freshURLsMax, current.status == .created,
        let url = current.uploadURL, url.exposed != job.uploadURL?.exposed
      {
        logger.notice("\(chunk.label): \(error.message); job \(job.id) has a fresh upload URL")
        return try await upload(chunk, attempt, current, freshURLs: freshURLs + 1)
      }
      status = current.status
    } catch let later as APIError where [.notFound, .jobRefused].contains(later.kind) {
      status = later.kind == .notFound ? .expired : .unrecognized("refused")
    }
    switch status {
    case .inProgress, .complete:
      try await ledger.fileUploaded(attempt, of: chunk)
      return .uploaded
    case .created where error.kind == .temporary || error.kind == .rateLimited: throw error
    case .created, .unrecognized:
      return try await cancel(job.id, attempt, of: chunk, why: error.message)
    case .failed, .expired: return try await failed(attempt, of: chunk, why: error.message)
    }
  }

  // MARK: Too large

  /// Replaces a chunk with its two halves, after the host has refused the chunk as too large.
  private func cut(
    _ chunk: Chunk, _ attempt: Attempt, _ job: APIJob, _ error: APIError
  ) async throws -> Outcome {
    try await cancelJobToFreeSlot(job.id, chunk)
    try await ledger.sizeRefused(attempt, of: chunk)
    let cutHistory = try await ledger.cutHistory(of: chunk)
    guard cutHistory.cutMayHelp(chunk) else {
      try await ledger.chunkFailed(
        chunk, why: error.summary, isRetryable: false)
      return .failed
    }
    do {
      try await cut(chunk, after: attempt, cutHistory, why: error.message)
    } catch let error as ChunkFileError where error.code == .lost {
      return try await failed(attempt, of: chunk, why: error.message)
    }
    logger.warning(
      """
      \(chunk.label): \(chunk.bytes) bytes are too many for the host, so the chunk is cut in two
        remedy: reduce the dataset's chunk.bytes
      """, metadata: chunk.metadata("submit"))
    return .cut
  }

  /// Cuts a chunk before it has a job, if in this run the host has refused a chunk of about the same size or smaller as
  /// too large. Each refusal uses a job. If the API cannot cancel jobs, the slot is taken until the URL expires. The
  /// next run tries the full size again.
  private func cutBeforeUpload(_ chunk: Chunk) async throws -> Outcome? {
    let cutHistory = try await ledger.cutHistory(of: chunk)
    guard let refused = cutHistory.refusedBytes, cutHistory.isTooLarge(chunk),
      cutHistory.cutMayHelp(chunk)
    else { return nil }
    try await cut(chunk, after: nil, cutHistory, why: "")
    logger.notice(
      "\(chunk.label): cut in two before the upload: it has \(chunk.bytes) bytes, and the host has refused \(refused)",
      metadata: chunk.metadata("submit"))
    return .cut
  }

  private func cut(
    _ chunk: Chunk, after attempt: Attempt?, _ cutHistory: ChunkLedger.CutHistory, why: String
  ) async throws {
    let parts = try CrashStep.chunkFilesCut.around {
      try chunk.file.halves(
        named: "\(chunk.dataset)-\(ledger.lease.fileTag)-part-\(chunk.id)-\(cutHistory.cuts + 1)")
    }
    try await ledger.chunkCut(
      chunk, after: attempt, why: "\(why); the chunk was cut in two", into: parts)
    CrashStep.cutFileRemoved.around { _ = unlink(chunk.path) }
  }

  // MARK: The end of an attempt

  /// Cancels the job before the attempt is recorded as ended, so that the next attempt can have the slot.
  private func cancel(
    _ apiID: String, _ attempt: Attempt, of chunk: Chunk, why: String
  ) async throws -> Outcome {
    try await cancelJobToFreeSlot(apiID, chunk)
    return try await failed(attempt, of: chunk, why: why)
  }

  private func cancelJobToFreeSlot(_ apiID: String, _ chunk: Chunk) async throws {
    do {
      try await CrashStep.cancelCallBySubmit.around { try await client.cancelJob(id: apiID) }
    } catch let error as APIError
      where [.notFound, .conflict, .jobRefused].contains(error.kind)
    {
      logger.notice("\(chunk.label): job \(apiID) was not cancelled: \(error.message)")
    }
  }

  private func failed(
    _ attempt: Attempt, of chunk: Chunk, why: String
  ) async throws -> Outcome {
    let hasAnother = try await ledger.attemptFailed(
      attempt, of: chunk, why: why, attemptsMax: jobAttemptsMax, stage: "submit", logger: logger)
    return hasAnother ? .attemptFailed : .failed
  }
}

extension DuplicateJobID {
  fileprivate var why: String {
    """
    the API responds with job \(apiID), an ID that it has used before\(formerName.map { " (for \($0))" } ?? ""), \
    so the job counts as not created
    """
  }
}
