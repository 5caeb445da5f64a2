import CrashPoints
import Definitions
import ExportStage
import Foundation
import Ledger
import PostgreSQL
import SystemPackage
import Vocabulary

/// What a stage's loop has done with a chunk.
enum ChunkStep {
  case done
  /// The chunk is left for a later run, or for an operator.
  case left
  /// The chunk waits for the slot of its type, which another process of the team or another task of this process has.
  case waits
}

/// The loop that the stages of a run share.
extension PipelineRun {
  typealias Step = (Chunk, ChunkLedger, Connection) async throws -> ChunkStep

  /// Runs a stage's loop: processes the run's chunks that are in one of `states`, in order. The loop ends when no chunk
  /// is in one of these states and no other stage can bring one into them. Skipped chunks and chunks that are left for
  /// a later run do not count. A chunk that another process has leased counts.
  ///
  /// - Parameters:
  ///   - resource: what the process leases before it processes a chunk. Nil for nothing.
  ///   - step: moves a chunk to its next state. If it leaves the chunk, the loop skips the chunk from then on.
  func work(
    _ stage: Stage, on states: [ChunkState], of type: JobType? = nil,
    fedBy upstream: [ChunkState], under resource: Resource? = nil, _ step: Step
  ) async throws {
    let connection = try await runtime.connect()
    let ledger = ChunkLedger(connection: connection, lease: lease)
    var skipped: Set<Int64> = []
    var wait = WorkWait(runtime.keeper, changes)
    var loss = SessionLoss(of: stage.rawValue, logger: logger)
    while true {
      // The view is taken before the ledger is read, so that any later change ends the wait below.
      let view = await changes.view
      do {
        var chunks = try await ledger.chunks(of: run.id, in: states + upstream)
          .filter { (type == nil || $0.type == type) && !skipped.contains($0.id) }
        chunks = await runtime.postponement.remaining(of: chunks)
        if chunks.isEmpty, view.isExportDone { break }
        let waiting = chunks.filter { states.contains($0.state) }
        let hasWorked =
          if waiting.isEmpty { false } else if let resource {
            try await runtime.leasing(resource, on: connection) {
              try await workOnce(on: states, waiting, &skipped, ledger, connection, step)
            } ?? false
          } else {
            try await workOnce(on: states, waiting, &skipped, ledger, connection, step)
          }
        if hasWorked {
          await changes.notify()
          (loss, wait) = (loss.afterStep, wait.afterStep)
        } else {
          try await wait.change(since: view)
        }
      } catch let error as PostgreSQLError where error.isLossOfSession {
        try await loss.wait(after: error)
      }
    }
    await connection.close()
  }

  /// Processes the first chunk that this process can lease.
  /// - Returns: false if it could do nothing.
  private func workOnce(
    on states: [ChunkState], _ chunks: [Chunk], _ skipped: inout Set<Int64>, _ ledger: ChunkLedger,
    _ connection: Connection, _ step: Step
  ) async throws -> Bool {
    var hosts: Set<String>?
    for chunk in chunks {
      if chunk.isElsewhere(than: lease.host) {
        let living =
          if let hosts { hosts } else {
            try await WorkerLedger.hosts(ofPipeline: chunk.pipeline, on: connection)
          }
        hosts = living
        // The process on that host processes the chunk.
        if let host = chunk.fileHost, living.contains(host) { continue }
      }
      let done = try await runtime.leasing(.chunk(chunk.id), on: connection) { () -> ChunkStep in
        // Another process may have changed the chunk before this process leased it.
        let current = try await ledger.take(chunk.id)
        return states.contains(current.state) ? try await step(current, ledger, connection) : .done
      }
      switch done {
      case .done: return true
      case .left:
        skipped.insert(chunk.id)
        return true
      // All other chunks would wait for the same slot.
      case .waits: return false
      case nil: continue
      }
    }
    return false
  }

  func rewriteFile(of chunk: Chunk, _ ledger: ChunkLedger) async throws {
    let dataset = try dataset(of: chunk)
    try await withConnections { copying, recording in
      let stage = ExportStage(
        connection: copying,
        ledger: ExportLedger(connection: recording, run: run, lease: lease), catalog: catalog,
        workDirectory: FilePath(run.workDirectory),
        skippedPercentMax: run.definition.limits.maxSkippedPercent, logger: logger)
      let rewrite = try await CrashStep.chunkFileRewritten.around {
        try await stage.rewriteFile(of: chunk, dataset: dataset)
      }
      switch rewrite {
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
  /// Whether the chunk's next stage needs its file, another host wrote the file, and no file is at its path here.
  fileprivate func isElsewhere(than host: String) -> Bool {
    switch state {
    case .exported, .created, .complete: break
    case .uploaded, .collected, .applied, .failed: return false
    }
    guard let fileHost, fileHost != host else { return false }
    return !FileManager.default.fileExists(atPath: path)
  }

  var isOfNoDataset: LedgerError {
    LedgerError(
      code: .unreadable,
      message: "\(label): its dataset is not in the definition of run \(runID)",
      remedy: "restore the ledger from a backup: it was changed by hand")
  }
}
