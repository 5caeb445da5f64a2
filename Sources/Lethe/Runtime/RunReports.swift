import ApplyStage
import Definitions
import Foundation
import Ledger
import Logging
import Vocabulary

/// Creates the reports of runs from the ledger.
extension PipelineRuntime {
  func report(_ unfit: RunDefinitionMismatch) async throws -> RunReport {
    logger.error("\(unfit)")
    return RunReport(
      unfit, pipeline: pipeline.definition.name, quarantineOpen: try await openQuarantine())
  }

  func report(_ run: Run) async throws -> RunReport {
    let ledger = RunLedger(connection: lockConnection)
    var datasets: [String: RunReport.DatasetReport] = [:]
    for total in try await ledger.datasetTotals(of: run) {
      datasets[total.dataset] = .init(
        ids: total.ids, chunks: total.chunks, jobs: total.jobs, events: total.events, rows: [:],
        quarantined: total.quarantined,
        leftOut: Dictionary(
          uniqueKeysWithValues: (total.leftOut?.byCause ?? [:]).map { ($0.key.rawValue, $0.value) }),
        seconds: await clock.seconds(of: total.dataset),
        pacedSeconds: await pacer.secondsWaited(of: total.dataset))
    }
    for row in try await ledger.rowTotals(of: run) {
      datasets[row.dataset]?.rows[row.table, default: [:]][row.action] = row.rows
    }
    var slots: [String: RunReport.SlotReport] = [:]
    for total in try await ledger.slotTotals(of: run) {
      slots[total.type.rawValue] = .init(
        jobs: total.jobs, busySeconds: StageClock.rounded(total.busySeconds),
        idleSeconds: StageClock.rounded(total.idleSeconds))
    }
    let halted = try await ledger.halted(of: run)
    let exports = try await ledger.haltedExports(of: run)
    let setAside = halted.filter(\.isSetAside).map {
      RunReport.SetAsideChunk($0, file: pipeline.file)
    }
    return RunReport(
      runID: run.id, pipeline: run.definition.name, status: .running, datasets: datasets,
      slots: slots,
      failures: setAside.map(\.reason)
        + exports.filter { !$0.isStopped }.map {
          "the rest of \($0.dataset) was not exported: \($0.why)"
        },
      stopped: halted.filter { !$0.isSetAside }.map {
        .init(chunkID: $0.chunkID, dataset: $0.dataset, reason: $0.reason, file: pipeline.file)
      }, stoppedDatasets: exports.filter(\.isStopped).map { .init($0, file: pipeline.file) },
      setAside: setAside,
      refused: try await ledger.refused(of: run).map { .init($0, file: pipeline.file) },
      quarantineOpen: try await openQuarantine())
  }
}
