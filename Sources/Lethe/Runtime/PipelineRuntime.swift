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
        let resumed = try await PipelineRun.resume(open, self)
        try await resumed.execute(exporting: !ledger.isGivenUp(open.id))
        reports.append(try await resumed.settle())
      } catch let error as RunDefinitionMismatch {
        reports.append(try await report(error))
      }
    }
    if !resumeOnly {
      let begun: PipelineRun
      do {
        begun = try await PipelineRun.begin(pipeline.definition, self)
      } catch let error as DefinitionError where !reports.isEmpty {
        let postponed = await postponement.summary
        throw NoNewRun(why: error, reports: reports, postponed: postponed)
      }
      try await begun.execute()
      reports.append(try await begun.settle())
    }
    try await postponement.rethrow()
    return reports
  }

  // MARK: What its commands share

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

  /// How many lines of the pipeline's quarantine wait for somebody's word.
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
