import ApplyStage
import AwaitStage
import CollectStage
import Definitions
import Foundation
import Ledger
import Logging
import PostgreSQL
import SubmitStage
import Vocabulary
import WorkFiles

/// The commands for single stages, for Makefiles and orchestrators.
extension PipelineRuntime {
  /// The result of a stage command.
  public struct StageReport: Sendable, Codable, Equatable {
    public var stage: String
    /// The number of chunks that the stage moved to the next state.
    public var chunks: Int
    /// The number of chunks that still wait for this stage.
    public var waiting: Int
    /// The runs that the command worked on.
    public var runs: [RunReport]
  }

  /// Exports every dataset into the newest unfinished run. If there is none, starts a new run. A run that waits only
  /// for an operator, that was given up, or that cannot continue, is not used.
  public func export() async throws -> StageReport {
    let ledger = RunLedger(connection: lockConnection)
    var resumed: PipelineRun?
    for open in try await ledger.unfinished(pipeline: pipeline.definition.name).reversed() {
      if try await ledger.waitsOnlyForOperator(open) { continue }
      do {
        resumed = try await PipelineRun.resume(open, self)
        break
      } catch let error as RunDefinitionMismatch {
        logger.error("\(error)")
      }
    }
    let taken: PipelineRun
    if let resumed {
      taken = resumed
    } else {
      guard let new = try await PipelineRun.begin(pipeline.definition, self) else {
        throw LedgerError(
          code: .refused, message: "this process has started a run already",
          remedy: "run lethe export again")
      }
      taken = new
    }
    let former = try await self.report(taken.run)
    let before = try await chunkCount(taken.run)
    try await taken.export()
    let report = StageReport(
      stage: Stage.export.rawValue, chunks: try await chunkCount(taken.run) - before, waiting: 0,
      runs: [try await taken.settle().excluding(former)])
    try await postponement.rethrow()
    return report
  }

  /// Submits the next waiting chunk of each type that has a free slot.
  public func submit() async throws -> StageReport {
    var busy: Set<JobType> = []
    return try await runStage(.submit, [.exported, .created]) { run, chunk, ledger, _ in
      // The job of an uploaded chunk holds its type's slot until it is complete.
      let uploaded = try await ledger.chunks(of: run.run.id, in: [.uploaded])
      busy.formUnion(uploaded.map(\.type))
      guard !busy.contains(chunk.type) else { return false }
      let outcome: SubmitStage.Outcome
      do {
        outcome = try await run.submit(chunk, ledger)
      } catch let error as WorkFileError {
        if try await run.postponeSubmission(of: chunk, ledger, error) { busy.insert(chunk.type) }
        return false
      }
      busy.insert(chunk.type)
      switch outcome {
      case .uploaded: return true
      case .slotTaken(by: let holder):
        logger.notice("\(chunk.label): the slot for \(chunk.type.rawValue) is taken by \(holder)")
        return false
      case .cut:
        busy.remove(chunk.type)
        return false
      case .attemptFailed, .failed, .fileLost: return false
      }
    }
  }

  /// Waits until every submitted job is complete or has failed.
  public func awaitJobs() async throws -> StageReport {
    try await runStage(.await, [.uploaded]) { run, chunk, ledger, _ in
      try await run.awaitCompletion(of: chunk, ledger) == .complete
    }
  }

  /// Collects the result of every complete job.
  public func collect() async throws -> StageReport {
    try await runStage(.collect, [.complete]) { run, chunk, ledger, connection in
      if case .collected? = try await run.collect(chunk, ledger, connection) {
        true
      } else {
        false
      }
    }
  }

  /// Applies every collected chunk.
  /// - Parameters:
  ///   - chunkID: a chunk that a limit has stopped. It is approved first.
  ///   - by: who approves the chunk. Nil for the user who started this process.
  ///   - note: why the chunk is approved.
  public func apply(
    approving chunkID: Int64? = nil, by: String? = nil, note: String? = nil
  ) async throws -> StageReport {
    if let chunkID { try await approve(chunkID, by: by ?? NSUserName(), note: note) }
    return try await runStage(.apply, [.collected]) { run, chunk, ledger, connection in
      try await run.apply(chunk, ledger, connection) == .applied
    }
  }

  /// Applies only these chunks.
  func apply(only chunkIDs: Set<Int64>) async throws -> StageReport {
    try await runStage(.apply, [.collected], only: chunkIDs) { run, chunk, ledger, connection in
      try await run.apply(chunk, ledger, connection) == .applied
    }
  }

  /// Runs a stage once for each chunk of all unfinished runs that is in one of `states`. Apply, the last stage, reports
  /// everything that waits for an operator. An earlier stage leaves out what already waited for an operator before the
  /// command, so that a script continues with the other chunks.
  /// - Parameter chunkIDs: only these chunks. Runs that have none of them are skipped.
  private func runStage(
    _ stage: Stage, _ states: [ChunkState], only chunkIDs: Set<Int64>? = nil,
    _ step: (PipelineRun, Chunk, ChunkLedger, Connection) async throws -> Bool
  ) async throws -> StageReport {
    var report = StageReport(stage: stage.rawValue, chunks: 0, waiting: 0, runs: [])
    let ledger = RunLedger(connection: lockConnection)
    let unfinished = try await ledger.unfinished(pipeline: pipeline.definition.name)
    let connection = try await connect()
    let chunkLedger = ChunkLedger(connection: connection, lease: lease)
    for open in unfinished {
      let chunks = try await chunkLedger.chunks(of: open.id, in: states)
        .filter { chunkIDs?.contains($0.id) ?? true }
      if chunks.isEmpty, chunkIDs != nil || stage != .apply { continue }
      let taken: PipelineRun
      do {
        taken = try await PipelineRun.resume(open, self)
      } catch let error as RunDefinitionMismatch {
        let unfit = try await self.report(error)
        if stage == .apply { report.runs.append(unfit) }
        continue
      }
      let former = stage == .apply ? nil : try await self.report(taken.run)
      // The chunks are read again, because `resume` might have moved the run's files to another folder.
      for chunk in try await chunkLedger.chunks(of: open.id, in: states)
      where chunks.contains(where: { $0.id == chunk.id }) {
        let isDone = try await retrying(stage, chunk, states, chunkLedger) {
          try await step(taken, $0, chunkLedger, connection)
        }
        if isDone { report.chunks += 1 }
      }
      report.waiting += try await chunkLedger.chunks(of: open.id, in: states).count
      report.runs.append(try await taken.settle().excluding(former))
    }
    await connection.close()
    try await postponement.rethrow()
    return report
  }

  /// Runs a stage for a chunk, and repeats it if the session is lost meanwhile.
  /// - Returns: whether the chunk was moved to the next state.
  private func retrying(
    _ stage: Stage, _ chunk: Chunk, _ states: [ChunkState], _ ledger: ChunkLedger,
    _ step: (Chunk) async throws -> Bool
  ) async throws -> Bool {
    var loss = SessionLoss(of: stage.rawValue, logger: logger)
    var current: Chunk? = chunk
    while true {
      do {
        if let current { return try await step(current) }
        let now = try await ledger.chunk(chunk.id)
        // The change may have been recorded although its response was lost.
        guard states.contains(now.state) else { return now.state != .failed }
        current = now
      } catch let error as PostgreSQLError where error.isLossOfSession {
        current = nil
        try await loss.wait(after: error)
      }
    }
  }
}
