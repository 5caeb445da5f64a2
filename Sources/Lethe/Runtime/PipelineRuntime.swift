import ApplyStage
public import ComplianceAPI
public import DefinitionFiles
public import Definitions
public import Failures
import Foundation
import Ledger
public import Logging
import PostgreSQL
import Vocabulary
import Warehouse

/// The error that another process works on the same pipeline. Nothing was done.
public struct PipelineLocked: ExplainedError, Sendable {
  public let pipeline: String
  /// Nil for a process of a version without leases.
  let holder: LeaseHolder?

  public var message: String {
    holder.map { "\($0.description) is working on the pipeline \(pipeline)" }
      ?? "another process, of an earlier version of Lethe, is working on the pipeline \(pipeline)"
  }
  public var remedy: String {
    """
    let it finish; lethe status shows its progress\(holder.map {
      "; if its machine is lost, its lease ends at \($0.expiresAt) unless it is renewed" } ?? "")
    """
  }
  public var disposition: Disposition { .held }
}

/// The error that no new run was started, because the current definition does not fit the database. Earlier runs
/// were resumed.
public struct NoNewRun: ExplainedError, Sendable {
  public let why: DefinitionError
  /// The reports of the earlier runs.
  public let reports: [RunReport]
  /// What the earlier runs left for a later run, and why.
  public let postponed: String?

  public init(why: DefinitionError, reports: [RunReport], postponed: String?) {
    (self.why, self.reports, self.postponed) = (why, reports, postponed)
  }

  public var message: String { why.summary + (postponed.map { "; and \($0)" } ?? "") }
  public var remedy: String { why.remedy }
  public var disposition: Disposition { why.disposition }
  public var description: String { "\(why)" + (postponed.map { "\n\($0)" } ?? "") }
}

/// Runs `lethe run` and the stage commands on a pipeline, under the pipeline's lease.
public struct PipelineRuntime: Sendable {
  let pipeline: Pipeline
  let workDirectory: String
  /// Whether the files of resumed runs are moved to `workDirectory`.
  let movesRuns: Bool
  let lockConnection: Connection
  let client: ComplianceClient
  let logger: Logger
  let keeper: LeaseKeeper
  let clock = StageClock()
  /// With the pace of today's definition, also for the runs that it resumes.
  let pacer: ApplyPacer
  let postponement = Postponement()

  var lease: Lease { keeper.ledger.lease }

  /// How long a connection may be idle. Jobs take minutes, and firewalls drop idle connections.
  private static let idleMax = Duration.seconds(5)
  /// How long the end of a process may take if the database does not answer.
  private static let endingMax = Duration.seconds(3)

  /// Checks the definition against the database, takes the pipeline's lease and runs `body`.
  ///
  /// - Parameters:
  ///   - workDirectory: the folder of chunk files, with one folder for each run.
  ///   - movingRuns: whether the files of resumed runs are moved to this folder, because the operator has named it.
  ///   - retry: how calls of the API are repeated.
  /// - Throws: `DefinitionError` before any stage runs, or `PipelineLocked`.
  public static func with<R: Sendable>(
    _ pipeline: Pipeline, workDirectory: String, movingRuns: Bool = true,
    retry: RetryPolicy = RetryPolicy(), logger: Logger,
    _ body: @escaping @Sendable (PipelineRuntime) async throws -> R
  ) async throws -> R {
    let name = pipeline.definition.name
    let workers = WorkerLedger(lease: Lease(), seconds: pipeline.leaseSeconds)
    try await Connection.withConnection(pipeline.warehouse, refusingPoolers: true) { connection in
      try await requireLedger(on: connection, pipeline)
      try await lease(name, to: workers, on: connection, logger)
    }
    let keeper = LeaseKeeper(workers, on: pipeline.warehouse, logger: logger)
    let result: Result<R, any Error>
    do {
      let value = try await keeper.keep {
        let connection = try await keeper.connect(renewedAfter: idleMax) {
          guard try await RunLedger(connection: $0).lockOutEarlierVersions(pipeline: name)
          else { throw PipelineLocked(pipeline: name, holder: nil) }
        }
        return try await pipeline.api.withClient(permit: keeper, retry: retry, logger: logger) {
          try await body(
            PipelineRuntime(
              pipeline: pipeline, workDirectory: workDirectory, movesRuns: movingRuns,
              lockConnection: connection, client: $0, logger: logger, keeper: keeper,
              pacer: ApplyPacer(pipeline.pace, logger: logger)))
        }
      }
      result = .success(value)
    } catch {
      result = .failure(error)
    }
    await end(workers, on: pipeline.warehouse)
    return try result.get()
  }

  /// Ends the leases of this process, so that a process that starts right after it finds the pipeline free. If the
  /// database does not answer, this process ends nevertheless. Its leases then end like those of a killed process.
  private static func end(_ workers: WorkerLedger, on warehouse: ConnectionString) async {
    await uncancelled(limit: endingMax) {
      try? await Connection.withConnection(warehouse) { try await workers.end(on: $0) }
    }
  }

  /// Takes the pipeline's lease for this process.
  /// - Throws: `PipelineLocked` with its holder.
  private static func lease(
    _ pipeline: String, to workers: WorkerLedger, on connection: Connection, _ logger: Logger
  ) async throws {
    try await workers.begin(OwnProcess.command, OwnProcess.identity, on: connection)
    do {
      let claim = try await workers.claim(
        WorkerLedger.resource(ofPipeline: pipeline), on: connection, hasEnded: OwnProcess.hasEnded)
      switch claim {
      case .mine: break
      case .takenOver(let former):
        logger.notice("the lease of \(former.description) has ended; continuing its work")
      case .held(let holder): throw PipelineLocked(pipeline: pipeline, holder: holder)
      }
    } catch {
      try? await workers.end(on: connection)
      throw error
    }
  }

  /// A connection of this process for the stages. Its sessions end when another process takes over.
  func connect() async throws -> Connection {
    try await keeper.connect(renewedAfter: Self.idleMax) { _ in }
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
        message: "the server is a standby and accepts no changes",
        remedy: "connect to the primary; with several hosts, add target_session_attrs=read-write")
    }
  }

  // MARK: lethe run

  /// Finishes earlier runs, then starts a new run. An earlier run that cannot continue does not stop the other
  /// earlier runs or the new run.
  ///
  /// - Parameter resumeOnly: if true, no new run is started.
  /// - Returns: a report for each run, the newest last.
  /// - Throws: errors that concern all runs, or `NoNewRun`. An error that left a chunk for a later run is thrown
  ///   after all other work is done.
  public func run(resumeOnly: Bool = false) async throws -> [RunReport] {
    let ledger = RunLedger(connection: lockConnection)
    var reports: [RunReport] = []
    for open in try await ledger.unfinished(pipeline: pipeline.definition.name) {
      logger.notice("run \(open.id) was left unfinished; continuing it")
      do {
        let resumed = try await PipelineRun.resume(open, self)
        try await resumed.execute(exporting: !ledger.isGivenUp(open.id))
        reports.append(try await resumed.settle())
      } catch let error as RunDefinitionMismatch {
        reports.append(try await report(error))
      }
    }
    if !resumeOnly {
      let run: PipelineRun
      do {
        run = try await PipelineRun.begin(pipeline.definition, self)
      } catch let error as DefinitionError where !reports.isEmpty {
        let postponed = await postponement.summary
        throw NoNewRun(why: error, reports: reports, postponed: postponed)
      }
      try await run.execute()
      reports.append(try await run.settle())
    }
    try await postponement.rethrow()
    return reports
  }

  // MARK: Shared by the commands

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

  /// The number of open lines in the pipeline's quarantine.
  public func openQuarantine() async throws -> Int {
    try await QuarantineLedger(connection: lockConnection)
      .openLines(pipeline: pipeline.definition.name)
  }

  func chunkCount(_ run: Run) async throws -> Int {
    try await RunLedger(connection: lockConnection).datasetTotals(of: run)
      .reduce(0) { $0 + $1.chunks }
  }
}

extension DefinitionError {
  /// One error with all findings. Nil if there is no finding.
  fileprivate init?(_ findings: [Finding], in pipeline: Pipeline) {
    self.init(
      findings.map {
        DefinitionError(
          file: pipeline.file, line: pipeline.line(of: $0.path), message: $0.message,
          remedy: $0.remedy)
      })
  }
}
