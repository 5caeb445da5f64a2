import ApplyStage
public import ComplianceAPI
public import DefinitionFiles
public import Definitions
public import Failures
import Foundation
public import Ledger
public import Logging
import PostgreSQL
import Vocabulary
import Warehouse

/// The error that another process works on the same pipeline. Nothing was done.
public struct PipelineLocked: ExplainedError, Sendable {
  public let pipeline: String
  /// The process that has the lease. Nil for a process of a version that had no leases.
  let holder: LeaseHolder?

  public var message: String {
    holder.map { "\($0.description) is working on the pipeline \(pipeline)" }
      ?? "another process, of an earlier version of Lethe, is working on the pipeline \(pipeline)"
  }
  public var remedy: String {
    """
    wait until that process has finished; lethe status shows its progress\(holder.map {
      ($0.isJoinable ? "; or help it with lethe run --join" : "")
        + "; if its machine is lost, its lease expires at \($0.expiresAt)" } ?? "")
    """
  }
  public var disposition: Disposition { .held }
}

/// The error that no new run was started, because the current definition does not fit the database. Before that,
/// earlier runs were resumed or given up.
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
  let membership: WorkerLedger.Membership
  let clock = StageClock()
  /// Keeps the pace of the current file, also for resumed runs.
  let pacer: ApplyPacer
  let postponement = Postponement()

  var lease: Lease { keeper.ledger.lease }

  /// The longest time that a session may be idle before a new session replaces it. Jobs take minutes, and firewalls
  /// drop idle connections.
  private static let idleMax = Duration.seconds(5)
  /// How long the end of the leases may take if the database does not respond.
  private static let endingMax = Duration.seconds(2)

  /// Checks the ledger and the database's encoding, takes the pipeline's lease and runs `body`.
  ///
  /// - Parameters:
  ///   - mode: whether other processes may work on the pipeline at the same time.
  ///   - workDirectory: the folder of chunk files, with one folder for each run.
  ///   - movingRuns: whether the files of resumed runs are moved to `workDirectory`. True if the operator has named
  ///     this folder.
  ///   - retry: how calls of the API are repeated.
  /// - Throws: `DefinitionError` if a check fails; `PipelineLocked`; `LedgerError` `.refused` if the sessions of a
  ///   former process cannot be terminated; the errors of `LeaseKeeper.keep` and of `body`.
  public static func with<R: Sendable>(
    _ pipeline: Pipeline, as mode: TeamMode = .alone, workDirectory: String,
    movingRuns: Bool = true,
    retry: RetryPolicy = RetryPolicy(), logger: Logger,
    _ body: @escaping @Sendable (PipelineRuntime) async throws -> R
  ) async throws -> R {
    let name = pipeline.definition.name
    let workers = WorkerLedger(
      lease: Lease(host: LocalProcess.hostName), seconds: pipeline.leaseSeconds)
    let began = ContinuousClock.now
    let membership = try await Connection.withConnection(pipeline.warehouse, refusingPoolers: true)
    {
      try await requireLedger(on: $0, pipeline)
      return try await enter(name, as: mode, workers, on: $0, logger)
    }
    let keeper = LeaseKeeper(
      workers, since: began, on: pipeline.warehouse, logger: logger)
    if case .joined = membership { await keeper.noteTeammates() }
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
              membership: membership,
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

  /// Ends the leases of this process, so that a process that starts immediately afterwards finds the pipeline free. If
  /// the database does not respond, this process ends nevertheless. Its leases then end like those of a killed process.
  private static func end(_ workers: WorkerLedger, on warehouse: ConnectionString) async {
    // A cancelled task sends no statements, so this needs a task of its own.
    await Task {
      try? await withBriefConnection(warehouse, limit: endingMax) { try await workers.end(on: $0) }
    }.value
  }

  /// Makes this process one of those that work on the pipeline.
  /// - Throws: `PipelineLocked` if another process works on it, and this one may not join it.
  private static func enter(
    _ pipeline: String, as mode: TeamMode, _ workers: WorkerLedger, on connection: Connection,
    _ logger: Logger
  ) async throws -> WorkerLedger.Membership {
    try await workers.begin(LocalProcess.command, LocalProcess.identity, on: connection)
    do {
      let membership = try await workers.enter(
        pipeline, as: mode, on: connection, hasEnded: LocalProcess.hasEnded)
      switch membership {
      case .started(let former):
        for holder in former {
          logger.notice("the lease of \(holder.description) has ended; continuing the work")
        }
      case .joined(_, let others):
        logger.notice("working together with \(others.map(\.description).joined(separator: ", "))")
      case .refused(let holder): throw PipelineLocked(pipeline: pipeline, holder: holder)
      }
      return membership
    } catch {
      try? await workers.end(on: connection)
      throw error
    }
  }

  /// Runs `body` while this process has the resource.
  /// - Returns: nil if another process, or another task of this one, has it. Then `body` did not run.
  func leasing<R>(
    _ resource: Resource, on connection: Connection, _ body: () async throws -> R
  ) async throws -> R? {
    guard case .mine = try await keeper.claim(resource, on: connection) else { return nil }
    let result: R
    do {
      result = try await body()
    } catch {
      await keeper.release(resource, on: connection)
      throw error
    }
    await keeper.release(resource, on: connection)
    return result
  }

  /// The token of this process's team.
  var team: String {
    if case .joined(let team, _) = membership { team } else { lease.token }
  }

  /// Whether other processes worked on the pipeline when this one began.
  var hasJoined: Bool {
    if case .joined = membership { true } else { false }
  }

  /// Opens a connection for a stage. Another process that takes over the lease terminates its sessions.
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
  /// earlier runs or the new run. A team starts one new run, and all its processes work on it.
  ///
  /// - Parameter resumeOnly: if true, no new run is started.
  /// - Returns: a report for each run, the newest last.
  /// - Throws: errors that concern all runs, or `NoNewRun`. The first error that left a chunk or an export for a later
  ///   run is thrown after all other work is done.
  public func run(resumeOnly: Bool = false) async throws -> [RunReport] {
    let ledger = RunLedger(connection: lockConnection)
    try await removeFoldersOfEndedRuns()
    var reports: [RunReport] = []
    var seen: Set<Int64> = []
    var mayStart = !resumeOnly
    while true {
      for open in try await ledger.unfinished(pipeline: pipeline.definition.name)
      where seen.insert(open.id).inserted {
        logger.notice("run \(open.id) is unfinished; continuing it")
        do {
          let resumed = try await PipelineRun.resume(open, self)
          try await resumed.execute(exporting: !ledger.isGivenUp(open.id))
          reports.append(try await resumed.settle())
        } catch let error as RunDefinitionMismatch {
          reports.append(try await report(error))
        }
      }
      // The files of a new run would fill a full disk even more.
      let isShortOfFiles = await postponement.isShortOfFiles
      guard mayStart, !isShortOfFiles else { break }
      mayStart = false
      let run: PipelineRun?
      do {
        run = try await PipelineRun.begin(pipeline.definition, self)
      } catch let error as DefinitionError where !reports.isEmpty {
        let postponed = await postponement.summary
        throw NoNewRun(why: error, reports: reports, postponed: postponed)
      }
      if let run {
        seen.insert(run.run.id)
        try await run.execute()
        reports.append(try await run.settle())
      }
      // Without a run, another process of the team has started one. If it is unfinished, the loop continues it.
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
  /// One error that contains all findings. Nil if there is no finding.
  fileprivate init?(_ findings: [Finding], in pipeline: Pipeline) {
    self.init(
      findings.map {
        DefinitionError(
          file: pipeline.file, line: pipeline.line(of: $0.path), message: $0.message,
          remedy: $0.remedy)
      })
  }
}
