import Definitions
import ExportStage
import Foundation
import Ledger
import PostgreSQL
import SystemPackage
import Vocabulary

/// The loop that the stages of a run share.
extension PipelineRun {
  /// Runs a stage's loop: processes the run's chunks that are in one of `states`, in order. It ends when none is
  /// left and the earlier stages cannot deliver more.
  ///
  /// - Parameter step: moves a chunk to its next state. If it returns false, the loop skips the chunk from then on.
  func work(
    _ stage: Stage, on states: [ChunkState], of type: JobType? = nil,
    fedBy upstream: [ChunkState],
    _ step: (Chunk, ChunkLedger, Connection) async throws -> Bool
  ) async throws {
    let connection = try await runtime.connect()
    let ledger = ChunkLedger(connection: connection, lease: lease)
    var skipped: Set<Int64> = []
    var loss = SessionLoss(of: stage.rawValue, logger: logger)
    while true {
      do {
        guard
          try await workOnce(
            on: states, of: type, fedBy: upstream, &skipped, ledger, connection, step)
        else { break }
        loss.stepDone()
      } catch let error as PostgreSQLError where error.isLossOfSession {
        try await loss.wait(after: error)
      }
    }
    await connection.close()
  }

  /// - Returns: false if nothing is left.
  private func workOnce(
    on states: [ChunkState], of type: JobType?, fedBy upstream: [ChunkState],
    _ skipped: inout Set<Int64>, _ ledger: ChunkLedger, _ connection: Connection,
    _ step: (Chunk, ChunkLedger, Connection) async throws -> Bool
  ) async throws -> Bool {
    // The view is taken before the ledger is read, so that any later change ends the wait below.
    let view = await changes.view
    let left = skipped.union(await runtime.postponement.chunkIDs)
    let chunks = try await ledger.chunks(of: run.id, in: states + upstream)
      .filter { (type == nil || $0.type == type) && !left.contains($0.id) }
    if let chunk = chunks.first(where: { states.contains($0.state) }) {
      if try await !step(chunk, ledger, connection) { skipped.insert(chunk.id) }
      await changes.notify()
    } else if chunks.isEmpty, view.isExportDone {
      return false
    } else {
      try await changes.change(since: view)
    }
    return true
  }

  func rewriteFile(of chunk: Chunk, _ ledger: ChunkLedger) async throws {
    let dataset = try dataset(of: chunk)
    try await withConnections { copying, recording in
      let stage = ExportStage(
        connection: copying,
        ledger: ExportLedger(connection: recording, run: run, lease: lease), catalog: catalog,
        workDirectory: FilePath(run.workDirectory),
        skippedPercentMax: run.definition.limits.maxSkippedPercent, logger: logger)
      switch try await stage.rewriteFile(of: chunk, dataset: dataset) {
      case .file(let file): try await ledger.fileReplaced(of: chunk, by: file)
      case .empty:
        try await ledger.chunkFailed(
          chunk, why: "its file was lost, and the warehouse has no rows in its key range any more",
          isRetryable: true)
      case .tooLarge:
        try await ledger.chunkFailed(
          chunk,
          why:
            "its file was lost, and its key range is now too large for one chunk; a new run splits it",
          isRetryable: true)
      }
    }
  }

  func dataset(of chunk: Chunk) throws -> Dataset {
    guard let dataset = run.definition.dataset(named: chunk.dataset) else {
      throw chunk.isOfNoDataset
    }
    return dataset
  }

  func withConnections(
    _ body: (Connection, Connection) async throws -> Void
  ) async throws {
    let (first, second) = (try await runtime.connect(), try await runtime.connect())
    do {
      try await body(first, second)
    } catch {
      await first.close()
      await second.close()
      throw error
    }
    await first.close()
    await second.close()
  }
}

extension Chunk {
  var isOfNoDataset: LedgerError {
    LedgerError(
      code: .unreadable,
      message: "\(label): its dataset is not in the definition of run \(runID)",
      remedy: "restore the ledger from a backup: it was changed by hand")
  }
}
