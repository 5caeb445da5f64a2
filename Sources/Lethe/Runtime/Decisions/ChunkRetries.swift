import Definitions
import ExportStage
import Ledger
import Logging
import PostgreSQL
import Warehouse

/// `lethe retry`: applies chunks and events that were set aside.
extension PipelineRuntime {
  /// Retries a chunk that was set aside, or refused events, with the definition of their run. Superseded events change
  /// nothing, and the limits are checked again. Events that are refused again are set aside again. If the retry is
  /// interrupted, `lethe run` and `lethe apply` continue it.
  ///
  /// - Parameters:
  ///   - chunkID: the chunk to retry. With `ids`, only refused events of this chunk are retried.
  ///   - ids: the IDs of the refused events to retry.
  /// - Returns: a report on the retried part of the runs only.
  /// - Throws: `LedgerError` if a part cannot be retried; `RunDefinitionMismatch` if the definition of its run does not
  ///   fit the database. Then no event is retried.
  public func retry(chunkID: Int64?, ids: Set<Int64> = []) async throws -> StageReport {
    let ledger = RunLedger(connection: lockConnection)
    let name = pipeline.definition.name
    try await ledger.endSupersededRefusals(pipeline: name)
    let all = try await ledger.retryable(chunkID: chunkID, ids: ids, pipeline: name)
    var runs: [Int64: (definition: Definition, catalog: Catalog)] = [:]
    for runID in Set(all.map(\.runID)) {
      // A run whose definition does not fit any more must not be reopened.
      let run = try await ledger.run(runID)
      runs[runID] = (run.definition, try await catalog(of: run))
    }
    let chunks = ChunkLedger(connection: lockConnection, lease: lease)
    for each in all {
      let chunk = try await chunks.chunk(each.chunkID)
      guard let run = runs[each.runID],
        let dataset = run.definition.dataset(named: chunk.dataset)
      else { throw chunk.isOfNoDataset }
      try await chunks.retried(
        chunk, ids: each.ids, stored: ExportStage.stored(in: dataset, catalog: run.catalog))
      logger.notice(
        "\(chunk.label) is retried\(each.ids.map { ": \($0.count) refused events" } ?? "")")
    }
    let report = try await apply(only: Set(all.map(\.chunkID)))
    return Self.about(all, report)
  }

  private static func about(
    _ all: [RunLedger.RetryableChunk], _ report: StageReport
  ) -> StageReport {
    var report = report
    report.stage = "retry"
    let chunks = Set(all.map(\.chunkID))
    for index in report.runs.indices {
      var run = report.runs[index]
      let before = run.setAside.count + run.stopped.count + run.refused.count
      run.setAside.removeAll { !chunks.contains($0.chunkID) }
      run.failures = run.setAside.map(\.reason)
      run.stoppedDatasets = []
      run.stopped.removeAll { !chunks.contains($0.chunkID) }
      run.refused.removeAll { event in
        !all.contains {
          $0.chunkID == event.chunkID
            && ($0.ids.map { ids in ids.contains { "\($0)" == event.id } } ?? true)
        }
      }
      let others = before - run.setAside.count - run.stopped.count - run.refused.count
      run.othersLeft = others > 0 ? others : nil
      report.runs[index] = run
    }
    return report
  }
}
