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

/// Another process works on the same pipeline. Nothing was done.
public struct PipelineLocked: ExplainedError, Sendable {
  public let pipeline: String

  public var message: String { "another process is working on the pipeline \(pipeline)" }
  public var remedy: String { "let it finish; lethe status shows its progress" }
  public var disposition: Disposition { .held }
}

/// Earlier runs were resumed, but today's definition does not fit the database, so no new run was started.
public struct NoNewRun: ExplainedError, Sendable {
  public let why: DefinitionError
  /// The reports of the earlier runs.
  public let reports: [RunReport]
  /// What is left of them for a later run, and why.
  public let postponed: String?

  public init(why: DefinitionError, reports: [RunReport], postponed: String?) {
    (self.why, self.reports, self.postponed) = (why, reports, postponed)
  }

  public var message: String { why.summary + (postponed.map { "; and \($0)" } ?? "") }
  public var remedy: String { why.remedy }
  public var disposition: Disposition { why.disposition }
  public var description: String { "\(why)" + (postponed.map { "\n\($0)" } ?? "") }
}

/// Runs `lethe run` and the stage commands on a pipeline, under the pipeline's lock.
public struct PipelineRuntime: Sendable {
  let pipeline: Pipeline
  let workDirectory: String
  /// Whether the files of resumed runs are moved to `workDirectory`.
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
  ///   - workDirectory: the folder of chunk files, with one folder for each run.
  ///   - movingRuns: whether the files of resumed runs are moved there, because the operator has named the folder.
  ///   - retry: how calls of the API are repeated.
  /// - Throws: `DefinitionError` before any stage runs; `PipelineLocked`.
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
      // The server may notice late that a session has ended, and a process that starts right after this one would
      // find the lock held. The separate task is needed because a cancelled task sends no statements.
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

  /// Finishes earlier runs, then makes a new run. An earlier run that cannot continue does not stop the other
  /// earlier runs or the new one.
  ///
  /// - Parameter resumeOnly: if true, no new run is made.
  /// - Returns: a report for each run, the newest last.
  /// - Throws: errors that concern all runs; `NoNewRun`; and, after all other work is done, the error that left a
  ///   chunk for a later run.
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
  /// One error with all findings; nil without any.
  fileprivate init?(_ findings: [Finding], in pipeline: Pipeline) {
    self.init(
      findings.map {
        DefinitionError(
          file: pipeline.file, line: pipeline.line(of: $0.path), message: $0.message,
          remedy: $0.remedy)
      })
  }
}
