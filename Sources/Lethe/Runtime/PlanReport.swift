import ApplyStage
import Definitions
import ExportStage
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// What a run would do.
public struct PlanReport: Sendable, Codable, Equatable {
  /// What a new run would export and send to the API.
  public var datasets: [DatasetPlan]
  /// The collected chunks that wait to be applied.
  public var chunks: [CollectedChunk]
  /// Open runs that cannot continue, and why.
  public var incompatibleRuns: [RunDefinitionMismatch] = []

  enum CodingKeys: String, CodingKey {
    case datasets, chunks
    case incompatibleRuns = "unfit"
  }

  public struct DatasetPlan: Sendable, Codable, Equatable {
    public var dataset: String
    public var ids: Int
    public var chunks: Int
    /// One job for each chunk. Jobs that fail add more.
    public var jobs: Int
    public var bytes: Int
    /// Rows that would not be exported, by cause.
    public var leftOut: [String: Int]
    /// Why the dataset would not be exported. Nil if it would be exported.
    public var stopReason: String?

    enum CodingKeys: String, CodingKey {
      case dataset, ids, chunks, jobs, bytes
      case leftOut = "left_out"
      case stopReason = "stops"
    }
  }

  public struct CollectedChunk: Sendable, Codable, Equatable {
    public var chunkID: Int64
    public var runID: Int64
    public var dataset: String
    public var rows: [Rows]
    /// What the chunk would restore. Nil if it releases no IDs.
    public var restores: Restores?
    /// Why a limit has stopped the chunk or would stop it.
    public var stopReason: String?
    /// Why the warehouse would refuse events. `ChunkPlan.refusals` describes the texts, and which rows `rows` counts.
    public var refusals: [String] = []

    enum CodingKeys: String, CodingKey {
      case chunkID = "chunk_id"
      case runID = "run_id"
      case dataset, rows, restores, refusals
      case stopReason = "stops"
    }
  }

  /// The numbers that are compared with the limits for restores.
  public struct Restores: Sendable, Codable, Equatable {
    /// The number of IDs in the chunk's key range that hold rows, or that an earlier version protected without holds.
    public var holdingIDs: Int
    /// The number of these IDs that the chunk's answers release.
    public var releasedIDs: Int
    /// The number of rows that would have no holder any more.
    public var rows: Int
    /// The number of rows that the run has already restored. Approved chunks do not count.
    public var rowsBefore: Int

    enum CodingKeys: String, CodingKey {
      case holdingIDs = "holding_ids"
      case releasedIDs = "released_ids"
      case rows
      case rowsBefore = "rows_before"
    }
  }

  public struct Rows: Sendable, Codable, Equatable {
    public var table: String
    public var action: String
    public var reason: String
    public var rows: Int
  }
}

extension PipelineRuntime {
  /// Returns what a run would do. For collected chunks, it runs apply's own transactions and rolls back each of them.
  /// The rows of an event that is too large for one transaction are only counted.
  public func plan() async throws -> PlanReport {
    var report = PlanReport(datasets: [], chunks: [])
    let catalog = try await checkedCatalog(pipeline.definition)
    for dataset in pipeline.definition.datasets {
      let plan = try await ExportStage.plan(dataset, catalog: catalog, on: lockConnection)
      report.datasets.append(
        .init(
          dataset: dataset.name, ids: plan.ids, chunks: plan.chunks, jobs: plan.chunks,
          bytes: plan.bytes,
          leftOut: Dictionary(
            uniqueKeysWithValues: plan.leftOut.byCause.map { ($0.key.rawValue, $0.value) }),
          stopReason: plan.leftOut.reasonToStop(
            percentMax: pipeline.definition.limits.maxSkippedPercent)))
    }
    let ledger = ChunkLedger(connection: lockConnection, lease: lease)
    for open in try await RunLedger(connection: lockConnection)
      .unfinished(pipeline: pipeline.definition.name)
    {
      let (run, catalog): (Run, Catalog)
      do {
        (run, catalog) = try await fitting(open)
      } catch let error as RunDefinitionMismatch {
        report.incompatibleRuns.append(error)
        continue
      }
      let pipelineRun = PipelineRun(runtime: self, run: run, catalog: catalog)
      for chunk in try await ledger.chunks(of: run.id, in: [.collected]) {
        let plan = try await pipelineRun.plan(chunk, ledger, lockConnection)
        report.chunks.append(
          .init(
            chunkID: chunk.id, runID: run.id, dataset: chunk.dataset,
            rows: plan.rows.map {
              .init(table: $0.table, action: $0.action, reason: $0.reason, rows: $0.rows)
            },
            restores: plan.restores.map {
              .init(
                holdingIDs: $0.holdingIDs, releasedIDs: $0.releasedIDs, rows: $0.rows,
                rowsBefore: $0.rowsBefore)
            }, stopReason: plan.stopReason, refusals: plan.refusals))
      }
    }
    return report
  }
}
