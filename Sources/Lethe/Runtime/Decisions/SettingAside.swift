import ApplyStage
import ComplianceAPI
import CrashPoints
internal import Failures
import Ledger
import Logging
import PostgreSQL
import Vocabulary
import WorkFiles

/// The consequence of an error that a stage throws while it processes a chunk.
enum Consequence {
  /// The error concerns all chunks: the run ends for now.
  case endsAll
  /// The error might be temporary: the chunk is left for a later run, and the other chunks continue.
  case postponesChunk
  /// The error concerns only this chunk: it is set aside, and the other chunks continue.
  case setsChunkAside(why: String, remedy: String, isRetryable: Bool)

  init(of error: any Error, in stage: Stage) {
    switch error {
    case let error as ApplyError:
      self = .setsChunkAside(why: error.message, remedy: error.remedy, isRetryable: true)
    case let error as APIError: self.init(of: error, in: stage)
    case let error as LedgerError: self.init(of: error)
    case let error as PostgreSQLError: self.init(of: error, in: stage)
    // The work of other chunks may need no file, or may free space. The callers of submit use `postponeSubmission`.
    case is WorkFileError: self = stage == .submit ? .endsAll : .postponesChunk
    default: self = .endsAll
    }
  }

  private init(of error: APIError, in stage: Stage) {
    switch error.kind {
    case .credentials, .creditsDepleted, .capped, .redirected, .proxyRefused, .wrongProxyProtocol,
      .clientCertificateRequired, .untrusted, .unknownHost, .hostNotAllowed,
      .rateLimited:
      self = .endsAll
    // A job of another program is not complete. Until it ends, the API accepts no new job of its type.
    case .conflict where stage == .submit: self = .endsAll
    // In collect, the cause can be the storage host of this one result, so the other chunks continue.
    case .temporary: self = stage == .collect ? .postponesChunk : .endsAll
    case .invalidRequest, .jobRefused, .urlRefused, .notFound, .conflict, .tooLarge, .unconfirmed,
      .incompleteResult, .noResult:
      self = .setsChunkAside(
        why: error.summary, remedy: error.remedy,
        isRetryable: error.kind != .tooLarge)
    }
  }

  private init(of error: LedgerError) {
    switch error.code {
    case .leaseLost, .refused: self = .endsAll
    case .missing, .unreadable:
      self = .setsChunkAside(why: error.message, remedy: error.remedy, isRetryable: false)
    }
  }

  private init(of error: PostgreSQLError, in stage: Stage) {
    switch stage {
    case .export: self = .endsAll
    // In the database, these stages change only the ledger. The values come from the API's responses about the chunk,
    // so a value that the ledger refuses concerns only this chunk.
    case .submit, .await:
      if let state = error.state, ["22", "23"].contains(state.conditionClass) {
        self = .setsChunkAside(
          why: "\(stage.rawValue): \(error.messageWithoutValues.withoutSecrets())",
          remedy: "report this message: the ledger cannot store the API's response",
          isRetryable: true)
      } else {
        self = .endsAll
      }
    case .collect, .apply:
      // A statement that another session cancelled, or that exceeds a limit of the server such as temp_file_limit,
      // concerns only this chunk. If it exceeds the definition's own timeout, a later run would fail, too.
      if error.isRetryableTransaction || (error.state == .queryCanceled && !error.isOwnTimeout)
        || error.state == .configurationLimitExceeded
      {
        self = .postponesChunk
      } else if error.isRefusal {
        self = .setsChunkAside(
          why: "\(stage.rawValue): \(error.messageWithoutValues.withoutSecrets())",
          remedy: error.hintWithoutValues ?? "see PostgreSQL's log for details", isRetryable: true)
      } else {
        self = .endsAll
      }
    }
  }
}

/// The chunks and the exports that are left for a later run, and the first of the errors that caused this.
actor Postponement {
  private(set) var chunkIDs: Set<Int64> = []
  private var exports: Set<String> = []
  /// The types whose chunks are not submitted any more by this process.
  private var types: Set<JobType> = []
  private var error: (any Error)?

  func note(_ error: any Error, of chunk: Chunk) {
    chunkIDs.insert(chunk.id)
    note(error)
  }

  /// Leaves the submission of a type's chunks for a later run.
  func note(_ error: any Error, ofType type: JobType) {
    types.insert(type)
    note(error)
  }

  /// The chunks that are not left for a later run.
  func remaining(of chunks: [Chunk]) -> [Chunk] {
    chunks.filter { chunk in
      switch chunk.state {
      case .exported, .created, .uploaded:
        !types.contains(chunk.type) && !chunkIDs.contains(chunk.id)
      case .complete, .collected, .applied, .failed: !chunkIDs.contains(chunk.id)
      }
    }
  }

  func note(_ error: any Error, ofExport dataset: String) {
    exports.insert(dataset)
    note(error)
  }

  private func note(_ error: any Error) {
    if self.error == nil { self.error = error }
    if error is WorkFileError { isShortOfFiles = true }
  }

  /// Whether files of the work directory could not be written or read.
  private(set) var isShortOfFiles = false

  /// The numbers of chunks and exports and the first error, for messages. Nil if nothing is left for a later run.
  var summary: String? {
    error.map {
      """
      \(chunkIDs.count) chunks\(exports.isEmpty ? "" : " and \(exports.count) exports") of earlier runs wait for a retry: \
      \($0)
      """
    }
  }

  func rethrow() throws {
    if let error { throw error }
  }
}

extension PipelineRun {
  /// Runs a stage for one chunk. An error of the stage ends the run only if it concerns all chunks.
  ///
  /// - Parameters:
  ///   - setAside: the return value if the chunk was set aside.
  ///   - postponed: the return value if the chunk is left for a later run.
  func runStage<Outcome: Sendable>(
    _ chunk: Chunk, in stage: Stage, _ ledger: ChunkLedger, setAside: Outcome, postponed: Outcome,
    _ body: () async throws -> Outcome
  ) async throws -> Outcome {
    do {
      return try await clock.measure(stage, chunk.dataset) { try await body() }
    } catch {
      switch Consequence(of: error, in: stage) {
      case .endsAll: throw error
      case .postponesChunk:
        await postpone(chunk, in: stage, error)
        return postponed
      case .setsChunkAside(let why, let remedy, let isRetryable):
        try await self.setAside(chunk, ledger, in: stage, why, remedy, isRetryable)
        return setAside
      }
    }
  }

  /// Leaves a chunk for a later run.
  func postpone(_ chunk: Chunk, in stage: Stage, _ error: any Error) async {
    logger.warning(
      "\(chunk.label) waits for a retry: \(error)",
      metadata: chunk.metadata(stage.rawValue))
    await runtime.postponement.note(error, of: chunk)
  }

  /// Leaves a chunk for a later run, because a work file cannot be read or written.
  /// - Returns: whether the chunk has, or may have, a job. This job may keep the slot, so no other chunk of the type is
  ///   submitted.
  func postponeSubmission(
    of chunk: Chunk, _ ledger: ChunkLedger, _ error: WorkFileError
  ) async throws -> Bool {
    await postpone(chunk, in: .submit, error)
    guard try await ledger.liveAttempt(at: chunk) != nil else { return false }
    await runtime.postponement.note(error, ofType: chunk.type)
    return true
  }

  func setAside(
    _ chunk: Chunk, _ ledger: ChunkLedger, in stage: Stage, _ why: String, _ remedy: String,
    _ isRetryable: Bool
  ) async throws {
    // The job is not needed any more. It is cancelled, because the API accepts no new job of its type until it ends.
    let job = try await ledger.liveAttempt(at: chunk)?.apiID
    if let job {
      do {
        try await CrashStep.cancelCallOfChunkSetAside.around { try await client.cancelJob(id: job) }
      } catch let error as APIError {
        logger.notice("\(chunk.label): job \(job) was not cancelled: \(error.message)")
      }
    }
    let name = "\(chunk.label): "
    try await ledger.chunkSetAside(
      chunk, why: why.hasPrefix(name) ? String(why.dropFirst(name.count)) : why, remedy: remedy,
      isRetryable: isRetryable)
    logger.error(
      "\(name)set aside: \(why)\n  remedy: \(remedy)",
      metadata: chunk.metadata(stage.rawValue, job: job))
  }
}
