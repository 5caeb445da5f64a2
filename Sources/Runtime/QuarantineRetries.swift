import CollectStage
import Definitions
import Ledger
import Logging
import PostgreSQL
import Vocabulary

/// `lethe quarantine retry`: kept lines → events → warehouse.
extension PipelineRuntime {
  /// What came of reading the quarantine again.
  public struct RetryReport: Sendable, Codable, Equatable {
    /// Lines that are events now.
    public var events: Int
    /// Events among them that a newer answer supersedes: they changed nothing.
    public var superseded: Int
    /// Lines of the pipeline that still wait for somebody's word.
    public var open: Int
    /// The runs that the events belong to.
    public var runs: [RunReport]
  }

  /// Reads open lines again, and applies those that are events now with the definition of their run.
  /// Cut off in between, `lethe run` and `lethe apply` go on with them.
  ///
  /// - Parameter ids: these lines only.
  /// - Throws: `LedgerError` if one of them is not an open line of the pipeline.
  public func retryQuarantined(_ ids: Set<Int64>? = nil) async throws -> RetryReport {
    let name = pipeline.definition.name
    let quarantine = QuarantineLedger(connection: lockConnection)
    var report = RetryReport(events: 0, superseded: 0, open: 0, runs: [])
    var reopened: Set<Int64> = []
    for chunk in try await quarantine.chunks(withOpenLines: ids, pipeline: name) {
      if let obstacle = chunk.obstacle {
        logger.warning("the lines of chunk \(chunk.chunkID) stay: \(obstacle)")
        continue
      }
      let outcome = try await reread(chunk, ids)
      guard outcome.events > 0 else { continue }
      report.events += outcome.events
      report.superseded += outcome.superseded
      reopened.insert(chunk.chunkID)
    }
    if !reopened.isEmpty { report.runs = try await apply(only: reopened).runs }
    report.open = try await quarantine.openLines(pipeline: name)
    return report
  }

  private func reread(
    _ chunk: QuarantineLedger.ChunkWithLines, _ ids: Set<Int64>?
  ) async throws -> QuarantineRetry.Outcome {
    let run = try await RunLedger(connection: lockConnection).run(chunk.runID)
    // A run that can no longer be applied must not be opened again.
    _ = try await catalog(of: run)
    let ledger = ChunkLedger(connection: lockConnection, lease: lease)
    let chunk = try await ledger.chunk(chunk.chunkID)
    let answered = run.definition.dataset(named: chunk.dataset)?.actions.keys.map { $0 } ?? []
    let outcome = try await QuarantineRetry(connection: lockConnection, ledger: ledger)
      .retry(chunk, selected: ids, reasons: Set(answered))
    logger.info(
      "\(chunk.label): \(outcome.events) kept lines are events now",
      metadata: ["stage": "collect", "chunk": "\(chunk.id)"])
    return outcome
  }
}
