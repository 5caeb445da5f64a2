import ApplyStage
import AwaitStage
import CollectStage
import ComplianceAPI
import CrashPoints
import Definitions
import ExportStage
import Foundation
import Ledger
import Logging
import PostgreSQL
import SubmitStage
import Synchronization
import SystemPackage
import Vocabulary
import Warehouse
import WorkFiles

/// One run, from export to apply. The data flow:
///
///     warehouse ─▶ export ─▶ submit ─▶ await ─▶ collect ─▶ apply ─▶ warehouse
///
/// The stages work at the same time: while the API processes one chunk, the next chunk is exported and the
/// previous chunk is applied. Each stage finds its input in the ledger. So the same code starts a run and resumes an
/// interrupted run.
struct PipelineRun: Sendable {
  let runtime: PipelineRuntime
  let run: Run
  let catalog: Catalog
  let changes = ChangeSignal()

  var pipeline: Pipeline { runtime.pipeline }
  var lease: Lease { runtime.lease }
  var client: ComplianceClient { runtime.client }
  var clock: StageClock { runtime.clock }
  var logger: Logger { runtime.logger }

  // MARK: Begin, resume, settle

  /// - Returns: nil if the process's team has started a run before.
  /// - Throws: `DefinitionError` if the definition does not fit the database. Then no run is started.
  static func begin(_ definition: Definition, _ runtime: PipelineRuntime) async throws -> Self? {
    let resolved = try await runtime.checkedCatalog(definition).resolved(definition)
    guard
      let run = try await RunLedger(connection: runtime.lockConnection).begin(
        resolved, in: runtime.workDirectory, lease: runtime.lease, team: runtime.team,
        file: runtime.pipeline.file)
    else { return nil }
    runtime.logger.info("run \(run.id) of \(definition.name) starts")
    let catalog = try await Catalog(of: resolved, on: runtime.lockConnection)
    return Self(runtime: runtime, run: run, catalog: catalog)
  }

  /// Resumes a run that was interrupted, that waits for an operator, or on which the process's team works.
  /// - Throws: `RunDefinitionMismatch` if the run cannot continue. Then the run is not changed.
  static func resume(_ open: OpenRun, _ runtime: PipelineRuntime) async throws -> Self {
    let (run, catalog) = try await runtime.fitting(open)
    if !runtime.hasJoined {
      try await RunLedger(connection: runtime.lockConnection)
        .takeOver(run.id, lease: runtime.lease, file: runtime.pipeline.file)
    }
    return Self(
      runtime: runtime, run: try await runtime.movedToWorkDirectory(run), catalog: catalog)
  }

  /// Runs all stages. Returns when every chunk is applied, stopped, set aside or left for a later run.
  /// - Parameter exporting: if false, processes only chunks that are already exported.
  func execute(exporting: Bool = true) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { if exporting { try await export() } else { await changes.exportDone() } }
      for type in Set(run.definition.datasets.map(\.type)) {
        // The API has one slot for each type.
        group.addTask { try await submitAndAwait(type) }
      }
      group.addTask { try await collect() }
      group.addTask { try await apply() }
      // The first failure cancels the other stages. Their finished work is in the ledger.
      for try await _ in group {}
    }
  }

  /// Ends the run if it has no work left, and returns its report.
  func settle() async throws -> RunReport {
    let ledger = RunLedger(connection: runtime.lockConnection)
    try await ledger.endSupersededRefusals(pipeline: run.definition.name)
    var report = try await runtime.report(run)
    let isSettled = try await ledger.isSettled(run, datasets: run.definition.datasets.count)
    let failure =
      report.failures.first ?? report.refused.first.map { "ID \($0.id): \($0.why)" }
      ?? report.stoppedDatasets.first.map { "\($0.dataset) is not exported: \($0.reason)" }
    if isSettled {
      report.status = failure == nil ? .done : .failed
      // The folder is removed before the run ends. In the other order, a process that is killed between the two steps
      // would leave the folder, and only a later `lethe run` with the same work directory would remove it.
      CrashStep.runFolderRemoved.around { runtime.removeFolder(run.workDirectory) }
    }
    if !report.stopped.isEmpty { report.status = .stopped }
    let status = report.status
    // If another process of the team is recording the end, this one does not have to.
    _ = try await runtime.leasing(.settlement(runID: run.id), on: runtime.lockConnection) {
      guard try await !ledger.hasEnded(run) else { return }
      if isSettled {
        // The catalog is read again, because a table might have lost its key during the run.
        try await HoldKeys(
          connection: runtime.lockConnection,
          catalog: Catalog(of: run.definition, on: runtime.lockConnection)
        ).endHoldsOfLostRows()
        try await ledger.runFinished(run, lease: lease, failure: failure)
      }
      if status == .stopped { try await ledger.runStopped(run, lease: lease) }
    }
    return report
  }

  // MARK: The stages in order

  /// Exports the datasets, one after another. If a dataset cannot be exported, the other datasets are still exported.
  /// Datasets that another process exports are left to that process.
  func export() async throws {
    let connection = try await runtime.connect()
    let ledger = ExportLedger(connection: connection, run: run, lease: lease)
    var left = run.definition.datasets
    var wait = WorkWait(runtime.keeper, changes)
    var loss = SessionLoss(of: Stage.export.rawValue, logger: logger)
    while !left.isEmpty {
      let view = await changes.view
      do {
        for dataset in left where try await exportIfFree(dataset, ledger) {
          left.removeAll { $0.name == dataset.name }
          (loss, wait) = (loss.afterStep, wait.afterStep)
        }
        if !left.isEmpty { try await wait.change(since: view) }
      } catch let error as PostgreSQLError where error.isLossOfSession {
        try await loss.wait(after: error)
      }
    }
    await connection.close()
    await changes.exportDone()
  }

  /// Exports a dataset, unless another process does.
  /// - Returns: whether the export of the dataset has ended.
  private func exportIfFree(_ dataset: Dataset, _ ledger: ExportLedger) async throws -> Bool {
    if try await ledger.isFinished(dataset.name) { return true }
    return try await runtime.leasing(
      .export(runID: run.id, dataset: dataset.name), on: ledger.connection
    ) {
      try await withConnections { copying, recording in
        let ledger = ExportLedger(connection: recording, run: run, lease: lease)
        let stage = ExportStage(
          connection: copying, ledger: ledger, catalog: catalog,
          workDirectory: FilePath(run.workDirectory),
          skippedPercentMax: run.definition.limits.maxSkippedPercent, logger: logger)
        do {
          try await clock.measure(.export, dataset.name) { try await export(dataset, stage) }
        } catch let error as PostgreSQLError where error.isRefusal {
          let why = error.messageWithoutValues.withoutSecrets()
          logger.error(
            """
            the rest of \(dataset.name) is not exported: \(why)
              remedy: correct the cause; the next lethe run exports the dataset again
            """, metadata: ledger.metadata(dataset.name))
          try await ledger.exportRefused(dataset.name, why: why)
        } catch let error as WorkFileError {
          // The other stages continue: they may need no file, or may free space on the disk.
          logger.warning(
            "the rest of \(dataset.name) is exported by a later run: \(error)",
            metadata: ledger.metadata(dataset.name))
          await runtime.postponement.note(error, ofExport: dataset.name)
        }
      }
      return true
    } ?? false
  }

  /// Exports a dataset. If the session is lost, the export continues after the last recorded chunk.
  private func export(_ dataset: Dataset, _ stage: ExportStage) async throws {
    var loss = SessionLoss(of: Stage.export.rawValue, logger: logger)
    while true {
      let chunks = Mutex(0)
      do {
        return try await stage.export(dataset) { _ in
          chunks.withLock { $0 += 1 }
          await changes.notify()
        }
      } catch let error as PostgreSQLError where error.isLossOfSession {
        if chunks.withLock({ $0 }) > 0 { loss = loss.afterStep }
        try await loss.wait(after: error)
      }
    }
  }

  private func submitAndAwait(_ type: JobType) async throws {
    let slot = SlotWait(type: type, settings: pipeline.api, logger: logger)
    let resource = Resource.slot(type, account: pipeline.api.account)
    try await work(
      .submit, on: [.exported, .created, .uploaded], of: type, fedBy: [.complete]
    ) { chunk, ledger, connection in
      let holder: String
      switch try await runtime.keeper.claim(resource, on: connection) {
      case .busy: return .waits
      // Another process of the team submits its chunks.
      case .held(let other) where other.pipeline == chunk.pipeline: return .waits
      case .held(let other): holder = other.description
      case .mine:
        let outcome: SubmitStage.Outcome
        do {
          outcome = try await submitOrAwait(chunk, ledger)
        } catch let error as WorkFileError {
          await runtime.keeper.release(resource, on: connection)
          _ = try await postponeSubmission(of: chunk, ledger, error)
          return .left
        } catch {
          await runtime.keeper.release(resource, on: connection)
          throw error
        }
        await runtime.keeper.release(resource, on: connection)
        guard case .slotTaken(by: let job) = outcome else {
          await slot.reset()
          return .done
        }
        holder = job
      }
      if try await !slot.wait(for: chunk, holder) {
        try await setAside(chunk, ledger, in: .submit, slot.why(holder), slot.remedy, true)
      }
      return .done
    }
  }

  private func submitOrAwait(
    _ chunk: Chunk, _ ledger: ChunkLedger
  ) async throws -> SubmitStage.Outcome {
    if chunk.state != .uploaded {
      let outcome = try await submit(chunk, ledger)
      guard outcome == .uploaded else { return outcome }
    }
    let uploaded = try await ledger.chunk(chunk.id)
    if uploaded.state == .uploaded { _ = try await awaitCompletion(of: uploaded, ledger) }
    return .uploaded
  }

  private func collect() async throws {
    try await work(
      .collect, on: [.complete], fedBy: [.exported, .created, .uploaded]
    ) { chunk, ledger, connection in
      try await collect(chunk, ledger, connection) != nil ? .done : .left
    }
  }

  private func apply() async throws {
    try await work(
      .apply, on: [.collected], fedBy: [.exported, .created, .uploaded, .complete],
      under: .apply(pipeline: run.definition.name)
    ) { chunk, ledger, connection in
      try await apply(chunk, ledger, connection) == .applied ? .done : .left
    }
  }

  // MARK: One chunk through one stage

  func submit(_ chunk: Chunk, _ ledger: ChunkLedger) async throws -> SubmitStage.Outcome {
    let stage = SubmitStage(
      ledger: ledger, client: client, jobAttemptsMax: pipeline.api.jobAttemptsMax, logger: logger,
      lease: runtime.keeper)
    let outcome: SubmitStage.Outcome = try await runStage(
      chunk, in: .submit, ledger, setAside: .failed, postponed: .failed
    ) { try await stage.submit(chunk) }
    if case .fileLost(let why) = outcome {
      logger.warning(
        "\(chunk.label): \(why); writing it again from the warehouse",
        metadata: chunk.metadata("submit"))
      do {
        try await rewriteFile(of: chunk, ledger)
      } catch let error as PostgreSQLError where error.isRefusal {
        try await ledger.chunkFailed(
          chunk,
          why: """
            its file was lost and cannot be written again: \(error.messageWithoutValues.withoutSecrets())
            """,
          isRetryable: true)
      } catch let error as WorkFileError {
        await postpone(chunk, in: .submit, error)
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
    return try await runStage(chunk, in: .await, ledger, setAside: .failed, postponed: .failed) {
      try await stage.awaitCompletion(of: chunk)
    }
  }

  /// - Returns: nil if the chunk is left for a later run.
  func collect(
    _ chunk: Chunk, _ ledger: ChunkLedger, _ connection: Connection
  ) async throws -> CollectStage.Outcome? {
    let stage = CollectStage(
      connection: connection, ledger: ledger, client: client,
      stored: ExportStage.stored(in: try dataset(of: chunk), catalog: catalog),
      jobAttemptsMax: pipeline.api.jobAttemptsMax, logger: logger)
    let outcome = try await runStage(
      chunk, in: .collect, ledger, setAside: CollectStage.Outcome?.some(.failed), postponed: nil
    ) { try await stage.collect(chunk) }
    // The later stages use only the collected events.
    if case .collected = outcome {
      CrashStep.chunkFileRemoved.around { _ = unlink(chunk.path) }
    }
    return outcome
  }

  /// - Returns: nil if the chunk is set aside or left for a later run.
  func apply(
    _ chunk: Chunk, _ ledger: ChunkLedger, _ connection: Connection
  ) async throws -> ApplyStage.Outcome? {
    let stage = applyStage(ledger, connection, runtime.pacer)
    let outcome = try await runStage(
      chunk, in: .apply, ledger, setAside: ApplyStage.Outcome?.none, postponed: nil
    ) { try await stage.apply(chunk, dataset: dataset(of: chunk)) }
    if case .stopped(let why) = outcome {
      let report = RunReport.StoppedChunk(
        chunkID: chunk.id, dataset: chunk.dataset, reason: why, file: pipeline.file)
      logger.error(
        """
        \(chunk.label) is stopped: \(why)
          remedy: if that is right, \(report.command)
        """, metadata: chunk.metadata("apply"))
    }
    return outcome
  }

  /// Returns what applying a collected chunk would do. Changes nothing.
  func plan(
    _ chunk: Chunk, _ ledger: ChunkLedger, _ connection: Connection
  ) async throws -> ChunkPlan {
    try await applyStage(ledger, connection).plan(chunk, dataset: dataset(of: chunk))
  }

  private func applyStage(
    _ ledger: ChunkLedger, _ connection: Connection, _ pacer: ApplyPacer? = nil
  ) -> ApplyStage {
    ApplyStage(
      connection: connection, ledger: ledger, catalog: catalog, definition: run.definition,
      pacer: pacer, logger: logger)
  }
}
