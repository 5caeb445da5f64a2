import ChunkFiles
public import ComplianceAPI
internal import Failures
import Foundation
public import Ledger
public import Logging
import SystemPackage
import Vocabulary

/// Chunk → job: creates a job for a chunk and uploads the chunk's file.
///
/// The intent is in the ledger before the API is called, and the job's name carries the chunk: a job
/// whose creation was cut off, on either side, is found in the listing and adopted.
public struct SubmitStage: Sendable {
  private let ledger: ChunkLedger
  private let client: ComplianceClient
  private let jobAttemptsMax: Int
  private let logger: Logger

  /// How often a creation whose answer was lost is tried before the run gives up for now.
  private static let creationTriesMax = 6
  /// The same where the slot is taken and nobody is seen to have it; then it is waited for as for any other job.
  private static let hiddenHolderTriesMax = 2
  /// How far the API's times of the same moment may be apart.
  private static let clockSecondsMax = 300.0

  public enum Outcome: Sendable, Equatable {
    /// The API has the chunk's bytes.
    case uploaded
    /// Another job holds the type's slot; its ID and name. Nothing was changed.
    case slotTaken(by: String)
    /// The job died; the chunk has another attempt.
    case died
    /// The host took the chunk for too large; it is two chunks now.
    case cut
    /// The chunk's file is lost: write it again first.
    case fileLost(String)
    /// The chunk is given up; the ledger has the reason.
    case failed
  }

  public init(
    ledger: ChunkLedger, client: ComplianceClient, jobAttemptsMax: Int, logger: Logger
  ) {
    self.ledger = ledger
    self.client = client
    self.jobAttemptsMax = jobAttemptsMax
    self.logger = logger
  }

  /// Takes a chunk from `exported` or `created` to `uploaded`.
  public func submit(_ chunk: Chunk) async throws -> Outcome {
    do {
      _ = try ChunkIndex(verifying: chunk.file)
    } catch let error as ChunkFileError {
      return try await fileLost(chunk, error)
    }
    let attempt: Attempt
    let job: APIJob
    if let known = try await ledger.liveAttempt(at: chunk), let apiID = known.apiID {
      attempt = known
      do {
        job = try await client.job(id: apiID)
      } catch let error as APIError where error.kind == .notFound {
        return try await died(known, of: chunk, why: "the API does not know the job any more")
      } catch let error as APIError where error.kind == .jobRefused {
        return try await cancel(apiID, known, of: chunk, why: error.message)
      }
      logger.notice("\(chunk.label): job \(apiID) is \(job.status); going on with it")
    } else {
      if try await ledger.liveAttempt(at: chunk) == nil,
        let outcome = try await cutBefore(chunk)
      {
        return outcome
      }
      switch try await create(for: chunk) {
      case .job(let created, let itsAttempt): (job, attempt) = (created, itsAttempt)
      case .slotTaken(let holder): return .slotTaken(by: holder)
      case .none(let attempt, let why):
        let outcome = try await died(attempt, of: chunk, why: why)
        // The next one is made at once, and whoever gives such answers is not to be asked without a pause.
        try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: attempt.number)))
        return outcome
      }
    }
    return try await upload(chunk, attempt, job)
  }

  /// The file can be written again only while no job knows the old one.
  private func fileLost(_ chunk: Chunk, _ error: ChunkFileError) async throws -> Outcome {
    guard let attempt = try await ledger.liveAttempt(at: chunk), let apiID = attempt.apiID else {
      return .fileLost(error.message)
    }
    return try await cancel(apiID, attempt, of: chunk, why: error.description)
  }

  // MARK: Creating

  private enum Creation {
    case job(APIJob, Attempt)
    case slotTaken(String)
    /// No job that could be used, and why.
    case none(Attempt, String)
  }

  private func create(for chunk: Chunk) async throws -> Creation {
    let attempt: Attempt
    if let cutOff = try await ledger.liveAttempt(at: chunk) {
      attempt = cutOff
      if let job = try await find(attempt, of: chunk) {
        return try await adopt(job, attempt, chunk)
      }
    } else {
      attempt = try await ledger.jobIntended(for: chunk)
    }
    for tries in 1... {
      do {
        let job = try await client.createJob(type: chunk.type, name: attempt.name)
        logger.info(
          "\(chunk.label): job \(job.id) created",
          metadata: ["stage": "submit", "chunk": "\(chunk.id)", "job": "\(job.id)"])
        if let why = Self.whyNotOurs(job, chunk) {
          return try await leave(job, attempt, chunk, why)
        }
        return .job(job, try await recorded(job, attempt, chunk))
      } catch let error as KnownJobID {
        return try await withoutUsableAnswer(attempt, chunk, why: error.why)
      } catch let error as APIError where error.kind == .jobRefused {
        return try await withoutUsableAnswer(attempt, chunk, why: error.message)
      } catch let error as APIError where error.kind == .temporary {
        // The answer is lost, and with it whether there is a job now.
        if let job = try await find(attempt, of: chunk) {
          return try await adopt(job, attempt, chunk)
        }
        guard tries < Self.creationTriesMax else { throw error }
        logger.notice("\(chunk.label): \(error.operation) had no answer and no effect; again")
        try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: tries)))
      } catch let error as APIError where error.kind == .conflict {
        let jobs = try await client.jobs(type: chunk.type)
        if let job = jobs.first(where: { $0.name == attempt.name }) {
          return try await adopt(job, attempt, chunk)
        }
        guard let holder = jobs.first(where: { $0.status.isActive }) else {
          guard tries < Self.hiddenHolderTriesMax else {
            return .slotTaken("a job that the listing does not show")
          }
          // It ended between the two calls, or the listing lags behind.
          try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: tries)))
          continue
        }
        return .slotTaken("job \(holder.id)\(holder.name.map { " (\($0))" } ?? "")")
      }
    }
    preconditionFailure("the loop above only ends by returning or throwing")
  }

  /// The API has answered, and not about a job of the attempt's: the listing may have the one that it has made.
  private func withoutUsableAnswer(
    _ attempt: Attempt, _ chunk: Chunk, why: String
  ) async throws -> Creation {
    logger.warning("\(chunk.label): \(why)")
    guard let job = try await find(attempt, of: chunk) else { return .none(attempt, why) }
    return try await adopt(job, attempt, chunk)
  }

  /// Bytes are sent only once the ledger has a job's ID. One that has some before is about others, and its silence
  /// would say of this chunk's IDs that they are clean.
  /// - Returns: nil if it may be the chunk's.
  private static func whyNotOurs(_ job: APIJob, _ chunk: Chunk) -> String? {
    if let type = job.type, type != chunk.type {
      return
        "job \(job.id) is of the type \(type.rawValue), and \(chunk.type.rawValue) was asked for"
    }
    return switch job.status {
    case .inProgress, .complete:
      "job \(job.id) is \(job.status), and nobody has sent it anything for this chunk"
    case .created, .failed, .expired, .unrecognized: nil
    }
  }

  private func leave(
    _ job: APIJob, _ attempt: Attempt, _ chunk: Chunk, _ why: String
  ) async throws -> Creation {
    logger.warning("\(chunk.label): \(why)")
    // One of another name may be somebody else's.
    if job.name == attempt.name { try await free(job.id, chunk) }
    return .none(attempt, why)
  }

  private func recorded(
    _ job: APIJob, _ attempt: Attempt, _ chunk: Chunk
  ) async throws -> Attempt {
    try await ledger.jobCreated(
      attempt, of: chunk, apiID: job.id, at: try await believedTime(of: job, attempt, chunk),
      uploadHost: job.uploadHost)
  }

  /// When the API says that it made the job, if that can be: the answers of jobs are ordered by it, and one that is
  /// too late would count for more than all that come after it.
  private func believedTime(
    of job: APIJob, _ attempt: Attempt, _ chunk: Chunk
  ) async throws -> Timestamp? {
    guard let time = job.createdAt else { return nil }
    let ageSeconds = (await client.now).timeIntervalSince1970 - time.secondsSince1970
    let ageSecondsMax = try await ledger.secondsSinceIntent(attempt)
    if (-Self.clockSecondsMax...ageSecondsMax + Self.clockSecondsMax).contains(ageSeconds) {
      return time
    }
    logger.warning(
      """
      \(chunk.label): the API's time of the creation of job \(job.id) is \(Int(abs(ageSeconds))) s \
      \(ageSeconds < 0 ? "in the future" : "ago"), which cannot be; it counts as made now
      """)
    return nil
  }

  private func find(_ attempt: Attempt, of chunk: Chunk) async throws -> APIJob? {
    try await client.jobs(type: chunk.type).first { $0.name == attempt.name }
  }

  private func adopt(_ job: APIJob, _ attempt: Attempt, _ chunk: Chunk) async throws -> Creation {
    if let why = Self.whyNotOurs(job, chunk) { return try await leave(job, attempt, chunk, why) }
    let itsAttempt: Attempt
    do {
      itsAttempt = try await recorded(job, attempt, chunk)
    } catch let error as KnownJobID {
      return .none(attempt, error.why)
    }
    logger.notice(
      "\(chunk.label): job \(job.id) had been created before; adopted",
      metadata: ["stage": "submit", "chunk": "\(chunk.id)", "job": "\(job.id)"])
    return .job(job, itsAttempt)
  }

  // MARK: Uploading

  private func upload(
    _ chunk: Chunk, _ attempt: Attempt, _ job: APIJob
  ) async throws -> Outcome {
    switch job.status {
    case .created: break
    case .inProgress, .complete:
      // An earlier process uploaded it and did not come to say so.
      try await ledger.uploadRecorded(attempt, of: chunk)
      return .uploaded
    case .failed, .expired:
      return try await died(
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
      return try await cancel(job.id, attempt, of: chunk, why: "its upload URL has expired")
    }
    do {
      try await client.upload(
        file: FilePath(chunk.path), bytes: chunk.bytes, to: url, job: job.id)
    } catch let error as APIError {
      return try await uploadFailed(error, chunk, attempt, job)
    }
    try await ledger.uploadRecorded(attempt, of: chunk)
    logger.info(
      "\(chunk.label): \(chunk.bytes) bytes uploaded to job \(job.id)",
      metadata: ["stage": "submit", "chunk": "\(chunk.id)", "job": "\(job.id)"])
    return .uploaded
  }

  /// The answer to an upload can be lost like any other: the job's status tells whether it arrived.
  private func uploadFailed(
    _ error: APIError, _ chunk: Chunk, _ attempt: Attempt, _ job: APIJob
  ) async throws -> Outcome {
    switch error.kind {
    case .hostNotAllowed, .localFile, .credentials, .creditsDepleted, .capped, .misdirected,
      .proxyRefused, .proxyMistaken, .certificateWanted, .untrusted,
      .incompleteResult, .noResult:
      throw error
    // Whatever the job says, it is not of the bytes that were sent.
    case .unproven: return try await cancel(job.id, attempt, of: chunk, why: error.message)
    case .tooLarge: return try await cut(chunk, attempt, job, error)
    case .invalidRequest, .jobRefused, .urlRefused, .notFound, .conflict, .rateLimited,
      .temporary:
      break
    }
    let status: JobStatus
    do {
      status = try await client.job(id: job.id).status
    } catch let later as APIError where [.notFound, .jobRefused].contains(later.kind) {
      status = later.kind == .notFound ? .expired : .unrecognized("refused")
    }
    switch status {
    case .inProgress, .complete:
      try await ledger.uploadRecorded(attempt, of: chunk)
      return .uploaded
    case .created where error.kind == .temporary || error.kind == .rateLimited: throw error
    case .created, .unrecognized:
      return try await cancel(job.id, attempt, of: chunk, why: error.message)
    case .failed, .expired: return try await died(attempt, of: chunk, why: error.message)
    }
  }

  // MARK: Too large

  /// Has two chunks in the place of one that the host has refused.
  private func cut(
    _ chunk: Chunk, _ attempt: Attempt, _ job: APIJob, _ error: APIError
  ) async throws -> Outcome {
    try await free(job.id, chunk)
    try await ledger.sizeRefused(attempt, of: chunk)
    let cutting = try await ledger.cutting(of: chunk)
    guard cutting.mayHelp(chunk) else {
      try await ledger.chunkFailed(
        chunk, why: error.what, isRetryable: false)
      return .failed
    }
    do {
      try await cut(chunk, after: attempt, cutting, why: error.message)
    } catch let error as ChunkFileError where error.code == .lost {
      return try await died(attempt, of: chunk, why: error.message)
    }
    logger.warning(
      """
      \(chunk.label): \(chunk.bytes) bytes are too many for the host, so that it is cut in two
        remedy: make the dataset's chunk.bytes smaller
      """, metadata: ["stage": "submit", "chunk": "\(chunk.id)"])
    return .cut
  }

  /// The same without a job, where the host has refused as much in this run: each refusal costs a job, and a slot
  /// until its URL has expired where the API cancels none. The next run tries it whole again.
  private func cutBefore(_ chunk: Chunk) async throws -> Outcome? {
    let cutting = try await ledger.cutting(of: chunk)
    guard let refused = cutting.refusedBytes, cutting.isTooLarge(chunk), cutting.mayHelp(chunk)
    else { return nil }
    try await cut(chunk, after: nil, cutting, why: "")
    logger.notice(
      "\(chunk.label): \(chunk.bytes) bytes, of which the host has refused \(refused); cut in two first",
      metadata: ["stage": "submit", "chunk": "\(chunk.id)"])
    return .cut
  }

  private func cut(
    _ chunk: Chunk, after attempt: Attempt?, _ cutting: ChunkLedger.Cutting, why: String
  ) async throws {
    let parts = try chunk.file.halves(
      named: "\(chunk.dataset)-part-\(chunk.id)-\(cutting.cuts + 1)")
    try await ledger.chunkCut(
      chunk, after: attempt, why: "\(why); the chunk was cut in two", into: parts)
    unlink(chunk.path)
  }

  // MARK: The end of an attempt

  /// Frees the slot before the attempt is written off, so that the next one can have it.
  private func cancel(
    _ apiID: String, _ attempt: Attempt, of chunk: Chunk, why: String
  ) async throws -> Outcome {
    try await free(apiID, chunk)
    return try await died(attempt, of: chunk, why: why)
  }

  private func free(_ apiID: String, _ chunk: Chunk) async throws {
    do {
      try await client.cancelJob(id: apiID)
    } catch let error as APIError
      where [.notFound, .conflict, .jobRefused].contains(error.kind)
    {
      logger.notice("\(chunk.label): job \(apiID) needs no cancelling: \(error.message)")
    }
  }

  private func died(
    _ attempt: Attempt, of chunk: Chunk, why: String
  ) async throws -> Outcome {
    let hasAnother = try await ledger.jobDied(
      attempt, of: chunk, why: why, attemptsMax: jobAttemptsMax)
    logger.warning(
      "\(chunk.label): attempt \(attempt.number) came to nothing: \(why)",
      metadata: ["stage": "submit", "chunk": "\(chunk.id)"])
    return hasAnother ? .died : .failed
  }
}

extension KnownJobID {
  fileprivate var why: String {
    """
    the API answers with job \(apiID), an ID that it has given before\(formerName.map { " (to \($0))" } ?? ""): \
    the job counts as not created
    """
  }
}
