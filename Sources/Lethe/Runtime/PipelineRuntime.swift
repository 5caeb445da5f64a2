import ApplyStage
import AwaitStage
import CollectStage
public import ComplianceAPI
public import DefinitionFiles
public import Definitions
public import Failures
import Foundation
import Ledger
public import Logging
import PostgreSQL
import SubmitStage
import Vocabulary
import Warehouse

/// Another process works on the same pipeline. Nothing was done.
public struct PipelineLocked: ExplainedError, Sendable {
  public let pipeline: String

  public var message: String { "another process is working on the pipeline \(pipeline)" }
  public var remedy: String { "let it finish; lethe status shows where it stands" }
  public var disposition: Disposition { .held }
}

/// Earlier runs were gone on with; but the definition of today does not fit, and no run of its own was begun.
public struct NoNewRun: ExplainedError, Sendable {
  public let why: DefinitionError
  /// Of the earlier runs.
  public let reports: [RunReport]
  /// What of them waits for a later try, and why.
  public let postponed: String?

  public init(why: DefinitionError, reports: [RunReport], postponed: String?) {
    (self.why, self.reports, self.postponed) = (why, reports, postponed)
  }

  public var message: String { why.what + (postponed.map { "; and \($0)" } ?? "") }
  public var remedy: String { why.remedy }
  public var disposition: Disposition { why.disposition }
  public var description: String { "\(why)" + (postponed.map { "\n\($0)" } ?? "") }
}

/// What `lethe run` and the stage commands do with a pipeline, while they hold its lock.
public struct PipelineRuntime: Sendable {
  let pipeline: Pipeline
  let workDirectory: String
  /// Whether runs that are resumed keep their files in `workDirectory`, too, and not where they began.
  let movesRuns: Bool
  let lockConnection: Connection
  let client: ComplianceClient
  let logger: Logger
  let lease = Lease()
  let clock = StageClock()
  let postponement = Postponement()

  /// Checks the definition against the database, takes the pipeline's lock and runs `body`.
  ///
  /// - Parameters:
  ///   - workDirectory: where chunk files go; a folder a run is made in it.
  ///   - movingRuns: whether that counts for runs that are resumed, too: somebody has named it.
  ///   - retry: how calls of the API are repeated.
  /// - Throws: `DefinitionError` before anything has run; `PipelineLocked`.
  public static func with<R: Sendable>(
    _ pipeline: Pipeline, workDirectory: String, movingRuns: Bool = true,
    retry: RetryPolicy = RetryPolicy(), logger: Logger,
    _ body: @Sendable (PipelineRuntime) async throws -> R
  ) async throws -> R {
    try await Connection.withConnection(pipeline.warehouse) { connection in
      try await requireLedger(on: connection, pipeline)
      let name = pipeline.definition.name
      guard try await RunLedger(connection: connection).lock(pipeline: name)
      else { throw PipelineLocked(pipeline: name) }
      let result: Result<R, any Error>
      do {
        result = .success(
          try await pipeline.api.withClient(retry: retry, logger: logger) { client in
            try await body(
              PipelineRuntime(
                pipeline: pipeline, workDirectory: workDirectory, movesRuns: movingRuns,
                lockConnection: connection, client: client, logger: logger))
          })
      } catch {
        result = .failure(error)
      }
      // The server takes its time to notice that a session has ended, and whoever is started right after this
      // process would find the lock held. A task of its own: one that was cancelled sends no statement.
      await Task { try? await RunLedger(connection: connection).unlock(pipeline: name) }.value
      return try result.get()
    }
  }

  static func requireLedger(
    on connection: Connection, _ pipeline: Pipeline
  ) async throws {
    try await requirePrimary(on: connection, pipeline)
    let findings =
      try await ledgerFindings(on: connection)
      + encodingFindings(of: pipeline.definition, on: connection)
    if let error = DefinitionError(findings, in: pipeline) { throw error }
  }

  static func requirePrimary(
    on connection: Connection, _ pipeline: Pipeline
  ) async throws {
    let isStandby = try await connection.query("SELECT pg_is_in_recovery()")
      .onlyRow(as: Bool.self)
    guard !isStandby else {
      throw DefinitionError(
        file: pipeline.file, line: pipeline.line(of: "warehouse"),
        message: "the server is a standby, and takes no changes",
        remedy: "name the primary; of several hosts, target_session_attrs=read-write finds it")
    }
  }

  // MARK: lethe run

  /// Finishes what earlier runs left, then makes a run of its own. An earlier run that cannot go on keeps
  /// neither the others nor the new one from it.
  ///
  /// - Parameter resumeOnly: makes none of its own.
  /// - Returns: a report for each run, the newest last.
  /// - Throws: what concerns all; `NoNewRun`; and at the end, with everything else done, what has left a chunk
  ///   for a later try.
  public func run(resumeOnly: Bool = false) async throws -> [RunReport] {
    let ledger = RunLedger(connection: lockConnection)
    var reports: [RunReport] = []
    for open in try await ledger.unfinished(pipeline: pipeline.definition.name) {
      logger.notice("run \(open.id) was left unfinished; going on with it")
      do {
        let road = try await road(takingOver: open)
        try await road.goAllTheWay(exporting: !ledger.isGivenUp(open.id))
        reports.append(try await settle(road.run))
      } catch let error as UnfitRun {
        reports.append(try await report(error))
      }
    }
    if !resumeOnly {
      let road: Road
      do {
        road = try await self.road(beginning: pipeline.definition)
      } catch let error as DefinitionError where !reports.isEmpty {
        let postponed = await postponement.summary
        throw NoNewRun(why: error, reports: reports, postponed: postponed)
      }
      try await road.goAllTheWay()
      reports.append(try await settle(road.run))
    }
    try await postponement.rethrow()
    return reports
  }

  // MARK: The stages as commands

  /// What a stage command did.
  public struct StageReport: Sendable, Codable, Equatable {
    public var stage: String
    /// The chunks that it took on by one stage.
    public var chunks: Int
    /// The chunks that still wait for this stage.
    public var waiting: Int
    /// The runs that it worked on.
    public var runs: [RunReport]
  }

  /// Exports every dataset into a run: into the one that is there, if one is unfinished; but not into one that
  /// only waits for somebody's word, or that cannot go on.
  public func export() async throws -> StageReport {
    let ledger = RunLedger(connection: lockConnection)
    var road: Road?
    for open in try await ledger.unfinished(pipeline: pipeline.definition.name).reversed() {
      if try await ledger.waitsForWordAlone(open) { continue }
      do {
        road = try await self.road(takingOver: open)
        break
      } catch let error as UnfitRun {
        logger.error("\(error)")
      }
    }
    let taken: Road
    if let road {
      taken = road
    } else {
      taken = try await self.road(beginning: pipeline.definition)
    }
    let halted = try await ledger.halted(of: taken.run)
    let before = try await chunkCount(taken.run)
    try await taken.export()
    return StageReport(
      stage: Stage.export.rawValue, chunks: try await chunkCount(taken.run) - before, waiting: 0,
      runs: [try await settle(taken.run).besides(halted)])
  }

  /// Submits, for each type whose slot is free, the next chunk that waits.
  public func submit() async throws -> StageReport {
    var busy: Set<JobType> = []
    return try await takeOn(.submit, [.exported, .created]) { road, chunk, ledger, _ in
      // A chunk that is uploaded holds its type's slot until its job is complete.
      let uploaded = try await ledger.chunks(of: road.run.id, in: [.uploaded])
      busy.formUnion(uploaded.map(\.type))
      guard !busy.contains(chunk.type) else { return false }
      busy.insert(chunk.type)
      switch try await road.submit(chunk, ledger) {
      case .uploaded: return true
      case .slotTaken(by: let holder):
        logger.notice("\(chunk.label): the slot for \(chunk.type.rawValue) is taken by \(holder)")
        return false
      case .cut:
        busy.remove(chunk.type)
        return false
      case .died, .failed, .fileLost: return false
      }
    }
  }

  /// Waits until every submitted job is complete or has come to nothing.
  public func awaitJobs() async throws -> StageReport {
    try await takeOn(.await, [.uploaded]) { road, chunk, ledger, _ in
      try await road.awaitCompletion(of: chunk, ledger) == .complete
    }
  }

  /// Collects the result of every complete job.
  public func collect() async throws -> StageReport {
    try await takeOn(.collect, [.complete]) { road, chunk, ledger, connection in
      if case .collected? = try await road.collect(chunk, ledger, connection) {
        true
      } else {
        false
      }
    }
  }

  /// Applies every collected chunk.
  /// - Parameters:
  ///   - chunkID: a chunk that a limit has stopped and that may go on now …
  ///   - by: … who says so; nil for the user who started this process …
  ///   - note: … and why.
  public func apply(
    approving chunkID: Int64? = nil, by: String? = nil, note: String? = nil
  ) async throws -> StageReport {
    if let chunkID { try await approve(chunkID, by: by ?? NSUserName(), note: note) }
    return try await takeOn(.apply, [.collected]) { road, chunk, ledger, connection in
      try await road.apply(chunk, ledger, connection) == .applied
    }
  }

  /// The same for some chunks alone.
  func apply(only chunkIDs: Set<Int64>) async throws -> StageReport {
    try await takeOn(.apply, [.collected], only: chunkIDs) { road, chunk, ledger, connection in
      try await road.apply(chunk, ledger, connection) == .applied
    }
  }

  /// Takes the chunks of all unfinished runs that are in one of `states` through a stage, each once. The last
  /// stage tells whatever waits for somebody in a run; another one only what it has brought about itself, so that a
  /// script goes on with the rest.
  /// - Parameter chunkIDs: these chunks only; runs without one are left alone.
  private func takeOn(
    _ stage: Stage, _ states: [ChunkState], only chunkIDs: Set<Int64>? = nil,
    _ step: (Road, Chunk, ChunkLedger, Connection) async throws -> Bool
  ) async throws -> StageReport {
    var report = StageReport(stage: stage.rawValue, chunks: 0, waiting: 0, runs: [])
    let ledger = RunLedger(connection: lockConnection)
    let unfinished = try await ledger.unfinished(pipeline: pipeline.definition.name)
    let connection = try await Connection.connect(pipeline.warehouse)
    let chunkLedger = ChunkLedger(connection: connection, lease: lease)
    for open in unfinished {
      let chunks = try await chunkLedger.chunks(of: open.id, in: states)
        .filter { chunkIDs?.contains($0.id) ?? true }
      if chunks.isEmpty, chunkIDs != nil || stage != .apply { continue }
      let road: Road
      do {
        road = try await self.road(takingOver: open)
      } catch let error as UnfitRun {
        let unfit = try await self.report(error)
        if stage == .apply { report.runs.append(unfit) }
        continue
      }
      let halted = stage == .apply ? [] : try await ledger.halted(of: road.run)
      // The run's folder may be another one by now.
      for chunk in try await chunkLedger.chunks(of: open.id, in: states)
      where chunks.contains(where: { $0.id == chunk.id }) {
        if try await step(road, chunk, chunkLedger, connection) { report.chunks += 1 }
      }
      report.waiting += try await chunkLedger.chunks(of: open.id, in: states).count
      report.runs.append(try await settle(road.run).besides(halted))
    }
    await connection.close()
    try await postponement.rethrow()
    return report
  }

  // MARK: The begin and the end of a run

  private func road(beginning definition: Definition) async throws -> Road {
    let resolved = try await checkedCatalog(definition).resolved(definition)
    let run = try await RunLedger(connection: lockConnection)
      .begin(resolved, in: workDirectory, lease: lease, file: pipeline.file)
    logger.info("run \(run.id) of \(definition.name) begins")
    return road(run, try await Catalog(of: resolved, on: lockConnection))
  }

  /// - Throws: `UnfitRun` if the run cannot go on; nothing of it is changed then.
  private func road(takingOver open: OpenRun) async throws -> Road {
    let (run, catalog) = try await fitting(open)
    try await RunLedger(connection: lockConnection)
      .takeOver(run.id, lease: lease, file: pipeline.file)
    return road(try await resettled(run), catalog)
  }

  func road(_ run: Run, _ catalog: Catalog) -> Road {
    Road(
      run: run, pipeline: pipeline, lease: lease, catalog: catalog, client: client, clock: clock,
      postponement: postponement, logger: logger)
  }

  func checkedCatalog(_ definition: Definition) async throws -> Catalog {
    let catalog = try await Catalog(of: definition, on: lockConnection)
    let findings =
      try await catalog.check(definition, on: lockConnection)
      + EventTriggers(connection: lockConnection).findings()
    for finding in findings {
      switch finding.severity {
      case .note: logger.info("\(finding.message)")
      case .warning: logger.warning("\(finding.message)\n  remedy: \(finding.remedy)")
      case .error: break
      }
    }
    if let error = DefinitionError(findings.filter { $0.severity == .error }, in: pipeline) {
      throw error
    }
    return catalog
  }

  /// Ends the run if nothing is left to do in it, and reports.
  func settle(_ run: Run) async throws -> RunReport {
    let ledger = RunLedger(connection: lockConnection)
    try await ledger.endOvertakenRefusals(pipeline: run.definition.name)
    var report = try await report(run)
    let isSettled = try await ledger.isSettled(run, datasets: run.definition.datasets.count)
    if isSettled {
      // First, so that a process that dies between the two leaves no folder that nobody looks for.
      try? FileManager.default.removeItem(atPath: run.workDirectory)
      try await HoldKeys(
        connection: lockConnection,
        catalog: Catalog(of: run.definition, on: lockConnection)
      ).endHoldsOfLostRows()
      let failure =
        report.failures.first ?? report.refused.first.map { "ID \($0.id): \($0.why)" }
        ?? report.stoppedDatasets.first.map { "\($0.dataset) is not exported: \($0.reason)" }
      try await ledger.runFinished(run, lease: lease, failure: failure)
      report.status = failure == nil ? .done : .failed
    }
    if !report.stopped.isEmpty {
      try await ledger.runStopped(run, lease: lease)
      report.status = .stopped
    }
    return report
  }

  private func report(_ unfit: UnfitRun) async throws -> RunReport {
    logger.error("\(unfit)")
    return RunReport(
      unfit, pipeline: pipeline.definition.name, quarantineOpen: try await openQuarantine())
  }

  private func report(_ run: Run) async throws -> RunReport {
    let ledger = RunLedger(connection: lockConnection)
    var datasets: [String: RunReport.DatasetReport] = [:]
    for total in try await ledger.datasetTotals(of: run) {
      datasets[total.dataset] = .init(
        ids: total.ids, chunks: total.chunks, jobs: total.jobs, events: total.events, rows: [:],
        quarantined: total.quarantined,
        leftOut: Dictionary(
          uniqueKeysWithValues: (total.leftOut?.byCause ?? [:]).map { ($0.key.rawValue, $0.value) }),
        seconds: await clock.seconds(of: total.dataset))
    }
    for row in try await ledger.rowTotals(of: run) {
      datasets[row.dataset]?.rows[row.table, default: [:]][row.action] = row.rows
    }
    let halted = try await ledger.halted(of: run)
    let exports = try await ledger.haltedExports(of: run)
    let setAside = halted.filter(\.isSetAside).map {
      RunReport.SetAsideChunk($0, file: pipeline.file)
    }
    return RunReport(
      runID: run.id, pipeline: run.definition.name, status: .running, datasets: datasets,
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

  /// How many lines of the pipeline's quarantine wait for somebody's word.
  public func openQuarantine() async throws -> Int {
    try await QuarantineLedger(connection: lockConnection)
      .openLines(pipeline: pipeline.definition.name)
  }

  private func chunkCount(_ run: Run) async throws -> Int {
    try await RunLedger(connection: lockConnection).datasetTotals(of: run)
      .reduce(0) { $0 + $1.chunks }
  }
}

extension DefinitionError {
  /// All that was found to be wrong as one error; nil if nothing was.
  fileprivate init?(_ findings: [Finding], in pipeline: Pipeline) {
    self.init(
      findings.map {
        DefinitionError(
          file: pipeline.file, line: pipeline.line(of: $0.path), message: $0.message,
          remedy: $0.remedy)
      })
  }
}
