import ApplyStage
import ComplianceAPI
internal import Failures
import Ledger
import Logging
import PostgreSQL
import Vocabulary

/// What becomes of a run if a stage throws while it works on a chunk.
enum Consequence {
  /// What is wrong concerns all: nothing of the run can go on now.
  case endsAll
  /// A later try may mend it; the chunk waits for it, and everything else goes on.
  case postponesChunk
  /// The chunk alone cannot go on.
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
    // Somebody else's job has the slot, which no chunk can have then.
    case .conflict where stage == .submit: self = .endsAll
    // The API has answered for the job before its result could not be had.
    case .temporary: self = stage == .collect ? .postponesChunk : .endsAll
    case .invalidRequest, .jobRefused, .urlRefused, .notFound, .conflict, .tooLarge, .unproven,
      .incompleteResult, .noResult:
      self = .setsChunkAside(
        why: error.what, remedy: error.remedy,
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
    // These have statements on the ledger only. What they write comes from the API's answers about the chunk, and a
    // value that the ledger does not take is wrong about this chunk alone.
    case .submit, .await:
      if let state = error.state, ["22", "23"].contains(state.conditionClass) {
        self = .setsChunkAside(
          why: "\(stage.rawValue): \(error.messageWithoutValues.withoutSecrets())",
          remedy: "report it with this message: the API has answered what the ledger cannot hold",
          isRetryable: true)
      } else {
        self = .endsAll
      }
    case .collect, .apply:
      // A statement that ran out of the time or the room that a setting gives it is about this chunk. The
      // definition's own time is no later try's to mend.
      if error.isRetryableTransaction || (error.state == .queryCanceled && !error.isOwnTimeout)
        || error.state == .configurationLimitExceeded
      {
        self = .postponesChunk
      } else if error.isRefusal {
        self = .setsChunkAside(
          why: "\(stage.rawValue): \(error.messageWithoutValues.withoutSecrets())",
          remedy: error.hintWithoutValues ?? "PostgreSQL's log has more of it", isRetryable: true)
      } else {
        self = .endsAll
      }
    }
  }
}

/// The chunks that wait for a later try, and the first error that has made one wait.
actor Postponement {
  private(set) var chunkIDs: Set<Int64> = []
  private var error: (any Error)?

  func note(_ error: any Error, of chunk: Chunk) {
    chunkIDs.insert(chunk.id)
    if self.error == nil { self.error = error }
  }

  /// Nil if none does.
  var summary: String? {
    error.map { "\(chunkIDs.count) chunks of earlier runs wait for a later try: \($0)" }
  }

  func rethrow() throws {
    if let error { throw error }
  }
}

extension PipelineRun {
  /// Takes one chunk through a stage. What it throws ends the run only if it concerns all.
  ///
  /// - Parameters:
  ///   - setAside: what is returned if the chunk was set aside …
  ///   - postponed: … and if it waits for a later try.
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
          "\(chunk.label) waits for another try: \(error)",
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
    // The API's slot is not to wait for a job that nobody asks for any more.
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
