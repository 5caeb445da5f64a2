import ApplyStage
import ComplianceAPI
internal import Failures
import Ledger
import Logging
import PostgreSQL
import Vocabulary

/// The consequence of an error that a stage throws while it processes a chunk.
enum Consequence {
  /// The error concerns all chunks: the run ends for now.
  case endsAll
  /// The error may be temporary: the chunk is left for a later run, and the other chunks continue.
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
    default: self = .endsAll
    }
  }

  private init(of error: APIError, in stage: Stage) {
    switch error.kind {
    case .credentials, .creditsDepleted, .capped, .misdirected, .proxyRefused, .proxyMistaken,
      .certificateWanted, .untrusted, .hostNotAllowed, .localFile,
      .rateLimited:
      self = .endsAll
    // Another program's job holds the slot, so no chunk can be submitted.
    case .conflict where stage == .submit: self = .endsAll
    // In collect, the API has responded about the job, so only the download of this result fails.
    case .temporary: self = stage == .collect ? .postponesChunk : .endsAll
    case .invalidRequest, .jobRefused, .urlRefused, .notFound, .conflict, .tooLarge, .unproven,
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
    // These stages write only to the ledger. The values come from the API's responses about the chunk, so a value
    // that the ledger refuses concerns only this chunk.
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
      // A statement that exceeds the time or memory of a server setting concerns only this chunk. If it exceeds the
      // definition's own timeout, a later run would fail, too.
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

/// The chunks that are left for a later run, and the first error that caused it.
actor Postponement {
  private(set) var chunkIDs: Set<Int64> = []
  private var error: (any Error)?

  func note(_ error: any Error, of chunk: Chunk) {
    chunkIDs.insert(chunk.id)
    if self.error == nil { self.error = error }
  }

  /// A text for messages. Nil if no chunk is left for a later run.
  var summary: String? {
    error.map { "\(chunkIDs.count) chunks of earlier runs wait for a retry: \($0)" }
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
  func alone<Outcome: Sendable>(
    _ chunk: Chunk, in stage: Stage, _ ledger: ChunkLedger, setAside: Outcome, postponed: Outcome,
    _ body: () async throws -> Outcome
  ) async throws -> Outcome {
    do {
      return try await clock.measure(stage, chunk.dataset) { try await body() }
    } catch {
      switch Consequence(of: error, in: stage) {
      case .endsAll: throw error
      case .postponesChunk:
        logger.warning(
          "\(chunk.label) waits for a retry: \(error)",
          metadata: ["stage": "\(stage.rawValue)", "chunk": "\(chunk.id)"])
        await runtime.postponement.note(error, of: chunk)
        return postponed
      case .setsChunkAside(let why, let remedy, let isRetryable):
        try await self.setAside(chunk, ledger, in: stage, why, remedy, isRetryable)
        return setAside
      }
    }
  }

  func setAside(
    _ chunk: Chunk, _ ledger: ChunkLedger, in stage: Stage, _ why: String, _ remedy: String,
    _ isRetryable: Bool
  ) async throws {
    // The job is not needed any more. If it is not cancelled, it keeps the API's slot.
    if let job = try await ledger.liveAttempt(at: chunk)?.apiID {
      do {
        try await client.cancelJob(id: job)
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
      metadata: ["stage": "\(stage.rawValue)", "chunk": "\(chunk.id)"])
  }
}
