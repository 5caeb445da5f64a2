import ApplyStage
import AwaitStage
import CollectStage
import ComplianceAPI
import Definitions
import ExportStage
import Foundation
import Ledger
import Logging
import PostgreSQL
import SubmitStage
import SystemPackage
import Vocabulary
import Warehouse

/// One run, from export to apply. This file is the program:
///
///     warehouse ─▶ export ─▶ submit ─▶ await ─▶ collect ─▶ apply ─▶ warehouse
///
/// The stages work side by side: while the API has one chunk, the next is exported and the last is
/// applied. What one leaves for the next lies in the ledger, so a run that was cut off goes on by the
/// same code that began it.
struct Road: Sendable {
  let run: Run
  let pipeline: Pipeline
  let lease: Lease
  let catalog: Catalog
  let client: ComplianceClient
  let clock: StageClock
  let logger: Logger
  let postponement: Postponement
  private let board = WorkBoard()

  init(
    run: Run, pipeline: Pipeline, lease: Lease, catalog: Catalog, client: ComplianceClient,
    clock: StageClock, postponement: Postponement, logger: Logger
  ) {
    self.run = run
    self.pipeline = pipeline
    self.lease = lease
    self.catalog = catalog
    self.client = client
    self.clock = clock
    self.postponement = postponement
    self.logger = logger
  }

  /// Goes the whole road. Returns when every chunk is applied, stopped, set aside or left for a later try.
  /// - Parameter exporting: false only goes on with the chunks that are there.
  func goAllTheWay(exporting: Bool = true) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { if exporting { try await export() } else { await board.exportDone() } }
      for type in Set(run.definition.datasets.map(\.type)) {
        // The API has one slot for each type.
        group.addTask { try await submitAndAwait(type) }
      }
      group.addTask { try await collect() }
      group.addTask { try await apply() }
      // The first failure ends the others; what they have done is in the ledger.
      for try await _ in group {}
    }
  }

  // MARK: The stages, left to right

  /// Every dataset, one after another. One whose rows cannot be exported keeps no other from it.
  func export() async throws {
    try await withConnections { copying, recording in
      let ledger = ExportLedger(connection: recording, run: run, lease: lease)
      let stage = ExportStage(
        connection: copying, ledger: ledger, catalog: catalog,
        workDirectory: FilePath(run.workDirectory),
        skippedPercentMax: run.definition.limits.maxSkippedPercent, logger: logger)
      for dataset in run.definition.datasets {
        do {
          try await clock.measure(.export, dataset.name) {
            try await stage.export(dataset) { _ in await board.ring() }
          }
        } catch let error as PostgreSQLError where error.isRefusal {
          let why = error.messageWithoutValues.withoutSecrets()
          logger.error("the rest of \(dataset.name) is not exported: \(why)")
          try await ledger.exportRefused(dataset.name, why: why)
        }
      }
    }
    await board.exportDone()
  }

  private func submitAndAwait(_ type: JobType) async throws {
    let slot = SlotWait(type: type, settings: pipeline.api, logger: logger)
    try await work(
      on: [.exported, .created, .uploaded], of: type, fedBy: [.complete]
    ) { chunk, ledger, _ in
      if chunk.state == .uploaded {
        _ = try await awaitCompletion(of: chunk, ledger)
        return true
      }
      guard case .slotTaken(by: let holder) = try await submit(chunk, ledger) else {
        await slot.isFree()
        return true
      }
      if try await !slot.wait(for: chunk, holder) {
        try await setAside(chunk, ledger, in: .submit, slot.why(holder), slot.remedy, true)
      }
      return true
    }
  }

  private func collect() async throws {
    try await work(
      on: [.complete], fedBy: [.exported, .created, .uploaded]
    ) { chunk, ledger, connection in
      try await collect(chunk, ledger, connection) != nil
    }
  }

  private func apply() async throws {
    try await work(
      on: [.collected], fedBy: [.exported, .created, .uploaded, .complete]
    ) { chunk, ledger, connection in
      try await apply(chunk, ledger, connection) == .applied
    }
  }

  // MARK: One chunk through one stage

  func submit(_ chunk: Chunk, _ ledger: ChunkLedger) async throws -> SubmitStage.Outcome {
    let stage = SubmitStage(
      ledger: ledger, client: client, jobAttemptsMax: pipeline.api.jobAttemptsMax, logger: logger)
    let outcome: SubmitStage.Outcome = try await alone(
      chunk, in: .submit, ledger, setAside: .failed, postponed: .failed
    ) { try await stage.submit(chunk) }
    if case .fileLost(let why) = outcome {
      logger.warning("\(chunk.label): \(why); writing it again from the warehouse")
      do {
        try await rewriteFile(of: chunk, ledger)
      } catch let error as PostgreSQLError where error.isRefusal {
        try await ledger.chunkFailed(
          chunk,
          why: """
            its file was lost and cannot be written again: \(error.messageWithoutValues.withoutSecrets())
            """,
          isRetryable: true)
      }
    }
    return outcome
  }

  func awaitCompletion(
    of chunk: Chunk, _ ledger: ChunkLedger
  ) async throws -> AwaitStage.Outcome {
    let stage = AwaitStage(
      ledger: ledger, client: client,
      settings: .init(
        pollSeconds: pipeline.api.pollSeconds, pollSecondsMax: pipeline.api.pollSecondsMax,
        jobAttemptsMax: pipeline.api.jobAttemptsMax, jobHoursMax: pipeline.api.jobHoursMax),
      logger: logger)
    return try await alone(chunk, in: .await, ledger, setAside: .failed, postponed: .failed) {
      try await stage.awaitCompletion(of: chunk)
    }
  }

  /// - Returns: nil if the chunk waits for a later try.
  func collect(
    _ chunk: Chunk, _ ledger: ChunkLedger, _ connection: Connection
  ) async throws -> CollectStage.Outcome? {
    let stage = CollectStage(
      connection: connection, ledger: ledger, client: client,
      stored: ExportStage.stored(in: try dataset(of: chunk), catalog: catalog),
      jobAttemptsMax: pipeline.api.jobAttemptsMax, logger: logger)
    let outcome = try await alone(
      chunk, in: .collect, ledger, setAside: CollectStage.Outcome?.some(.failed), postponed: nil
    ) { try await stage.collect(chunk) }
    // What follows goes by the collected events alone.
    if case .collected = outcome { unlink(chunk.path) }
    return outcome
  }

  /// - Returns: nil if the chunk is set aside or waits for a later try.
  func apply(
    _ chunk: Chunk, _ ledger: ChunkLedger, _ connection: Connection
  ) async throws -> ApplyStage.Outcome? {
    let stage = applyStage(ledger, connection)
    let outcome = try await alone(
      chunk, in: .apply, ledger, setAside: ApplyStage.Outcome?.none, postponed: nil
    ) { try await stage.apply(chunk, dataset: dataset(of: chunk)) }
    if case .stopped(let why) = outcome {
      logger.error(
        "\(chunk.label) is stopped: \(why)",
        metadata: ["stage": "apply", "chunk": "\(chunk.id)"])
    }
    return outcome
  }

  /// What applying a collected chunk would do; nothing is changed.
  func plan(
    _ chunk: Chunk, _ ledger: ChunkLedger, _ connection: Connection
  ) async throws -> ChunkPlan {
    try await applyStage(ledger, connection).plan(chunk, dataset: dataset(of: chunk))
  }

  private func applyStage(_ ledger: ChunkLedger, _ connection: Connection) -> ApplyStage {
    ApplyStage(
      connection: connection, ledger: ledger, catalog: catalog, definition: run.definition,
      logger: logger)
  }

  // MARK: What the stages share

  /// A stage's loop: takes the run's chunks that are in one of `states`, in order, until none is left
  /// and no more can come from the stages before it.
  ///
  /// - Parameter step: takes a chunk one stage on; false leaves it alone for the rest of the run.
  private func work(
    on states: [ChunkState], of type: JobType? = nil, fedBy upstream: [ChunkState],
    _ step: (Chunk, ChunkLedger, Connection) async throws -> Bool
  ) async throws {
    let connection = try await Connection.connect(pipeline.warehouse)
    let ledger = ChunkLedger(connection: connection, lease: lease)
    var leftAlone: Set<Int64> = []
    while true {
      // Seen before the ledger is read: what changes after this wakes the wait below.
      let view = await board.view
      let left = leftAlone.union(await postponement.chunkIDs)
      let chunks = try await ledger.chunks(of: run.id, in: states + upstream)
        .filter { (type == nil || $0.type == type) && !left.contains($0.id) }
      if let chunk = chunks.first(where: { states.contains($0.state) }) {
        if try await !step(chunk, ledger, connection) { leftAlone.insert(chunk.id) }
        await board.ring()
      } else if chunks.isEmpty, view.isExportDone {
        break
      } else {
        try await board.change(since: view)
      }
    }
    await connection.close()
  }

  private func rewriteFile(of chunk: Chunk, _ ledger: ChunkLedger) async throws {
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
          chunk, why: "its file was lost, and the warehouse has no rows of its key range any more",
          isRetryable: true)
      case .tooLarge:
        try await ledger.chunkFailed(
          chunk,
          why:
            "its file was lost, and its key range has outgrown one chunk; a new run cuts it anew",
          isRetryable: true)
      }
    }
  }

  private func dataset(of chunk: Chunk) throws -> Dataset {
    guard let dataset = run.definition.dataset(named: chunk.dataset) else {
      throw chunk.isOfNoDataset
    }
    return dataset
  }

  private func withConnections(
    _ body: (Connection, Connection) async throws -> Void
  ) async throws {
    try await Connection.withConnection(pipeline.warehouse) { first in
      try await Connection.withConnection(pipeline.warehouse) { second in
        try await body(first, second)
      }
    }
  }
}

extension Chunk {
  var isOfNoDataset: LedgerError {
    LedgerError(
      code: .unreadable,
      message: "\(label): its dataset is not in the definition of run \(runID)",
      remedy: "somebody has changed the ledger by hand: restore it")
  }
}
