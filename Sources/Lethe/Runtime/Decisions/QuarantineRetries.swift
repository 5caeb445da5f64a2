import ApplyStage
import CollectStage
import DefinitionFiles
import Definitions
import ExportStage
import Ledger
import Logging
import PostgreSQL
import Vocabulary

/// `lethe quarantine retry`: applies quarantined lines that this version can read as events.
extension PipelineRuntime {
  /// The result of a retry of quarantined lines.
  public struct RetryReport: Sendable, Codable, Equatable {
    /// The number of lines that are now events and are applied.
    public var events: Int
    /// The number of these events that changed nothing, because a newer answer supersedes them.
    public var superseded: Int
    /// The number of open lines in the pipeline's quarantine.
    public var open: Int
    /// Lines that cannot be applied, and why. They stay open.
    public var refused: [RefusedLine]
    /// The runs that the events belong to.
    public var runs: [RunReport]
  }

  /// Why one line, or all retried lines of a chunk, cannot be applied. Other lines of the same chunk may be applied.
  public struct RefusedLine: Sendable, Codable, Equatable {
    public let chunkID: Int64
    /// The ID in the line. Nil for all retried lines of the chunk.
    public let id: String?
    public let why: String
    public let remedy: String
    public let isLimit: Bool

    enum CodingKeys: String, CodingKey {
      case chunkID = "chunk_id"
      case id, why, remedy
      case isLimit = "is_limit"
    }
  }

  /// An approval to apply lines even if they exceed the limits.
  public struct LimitApproval: Sendable {
    public let by: String
    public let note: String?

    public init(by: String, note: String?) {
      self.by = by
      self.note = note
    }
  }

  /// The maximum number of attempts to apply the lines of a chunk. Each attempt leaves out the lines that were refused
  /// in the earlier attempts.
  private static let attemptsMax = 3

  /// Reads open lines again. Applies those that are now events, with the definition of their run. The lines of each
  /// chunk are applied in one transaction. If the warehouse refuses the transaction, the lines, the chunk and the run
  /// are unchanged.
  ///
  /// - Parameters:
  ///   - ids: only these lines. Nil for all.
  ///   - approval: an approval to exceed the limits. Without it, lines that exceed a limit are refused.
  /// - Throws: `LedgerError` if a line is not an open line of the pipeline. After a deadlock, a serialization failure
  ///   or a lock timeout, the other chunks are still retried, and then the first such error is thrown.
  public func retryQuarantined(
    _ ids: Set<Int64>? = nil, approval: LimitApproval? = nil
  ) async throws -> RetryReport {
    let name = pipeline.definition.name
    let quarantine = QuarantineLedger(connection: lockConnection)
    var report = RetryReport(events: 0, superseded: 0, open: 0, refused: [], runs: [])
    var temporary: (any Error)?
    for chunk in try await quarantine.chunks(withOpenLines: ids, pipeline: name) {
      if let obstacle = chunk.obstacle {
        logger.warning(
          "the lines of chunk \(chunk.chunkID) stay: \(obstacle)", metadata: chunk.metadata)
        continue
      }
      do {
        try await retry(chunk, ids, approval, &report)
      } catch let error as PostgreSQLError where error.isRetryableTransaction {
        logger.warning(
          "the lines of chunk \(chunk.chunkID) wait for a retry: \(error.messageWithoutValues)",
          metadata: chunk.metadata)
        temporary = temporary ?? error
      }
    }
    if let temporary { throw temporary }
    report.open = try await quarantine.openLines(pipeline: name)
    return report
  }

  // MARK: One chunk

  /// The error that some events of a chunk cannot be applied. The others are tried again without them.
  private struct EventsRefused: Error {
    let refusals: [ChunkLedger.Refusal]
  }

  /// The error that none of the lines of a chunk can be applied.
  private struct ChunkRefused: Error {
    let why: String
    let remedy: String
    var isLimit = false
  }

  private func retry(
    _ chunk: QuarantineLedger.ChunkWithLines, _ ids: Set<Int64>?, _ approval: LimitApproval?,
    _ report: inout RetryReport
  ) async throws {
    var refused: [ChunkLedger.Refusal] = []
    do {
      for _ in 1...Self.attemptsMax {
        do {
          let known = Set(refused.map(\.id))
          let (outcome, run) = try await lockConnection.withEnclosingTransaction {
            try await readAndApply(chunk, ids, excluding: known, approval)
          }
          report.add(outcome, run)
          note(refused, of: chunk, in: &report)
          return
        } catch let error as EventsRefused {
          refused += error.refusals
        }
      }
      note(refused, of: chunk, in: &report)
    } catch {
      guard let whole = Self.refusal(error, chunk.chunkID, pipeline.file) else { throw error }
      logger.error(
        "the lines of chunk \(chunk.chunkID) stay: \(whole.why)\n  remedy: \(whole.remedy)",
        metadata: chunk.metadata)
      report.refused.append(whole)
    }
  }

  private func note(
    _ refusals: [ChunkLedger.Refusal], of chunk: QuarantineLedger.ChunkWithLines,
    in report: inout RetryReport
  ) {
    for refusal in refusals {
      logger.error(
        "the line about \(refusal.id) stays: \(refusal.why)\n  remedy: \(refusal.remedy)",
        metadata: chunk.metadata)
      report.refused.append(
        RefusedLine(
          chunkID: chunk.chunkID, id: "\(refusal.id)", why: refusal.why, remedy: refusal.remedy,
          isLimit: false))
    }
  }

  /// The refusal of all lines of a chunk. Nil if the error is temporary or concerns all chunks.
  private static func refusal(
    _ error: any Error, _ chunkID: Int64, _ file: String
  ) -> RefusedLine? {
    func refused(_ why: String, _ remedy: String, isLimit: Bool = false) -> RefusedLine {
      RefusedLine(chunkID: chunkID, id: nil, why: why, remedy: remedy, isLimit: isLimit)
    }
    switch error {
    case let error as ChunkRefused: return refused(error.why, error.remedy, isLimit: error.isLimit)
    case let error as ApplyError: return refused(error.message, error.remedy)
    case let error as RunDefinitionMismatch:
      return refused(error.message, "\(error.remedy); or dismiss them")
    case let error as LedgerError where error.code == .unreadable:
      return refused(error.message, "\(error.remedy); or dismiss them")
    case let error as PostgreSQLError where error.isRefusal:
      return refused(error.messageWithoutValues, "see PostgreSQL's log for details")
    default: return nil
    }
  }

  // MARK: In the chunk's transaction

  /// - Returns: the outcome, and the report of the chunk's run if lines are now events.
  private func readAndApply(
    _ kept: QuarantineLedger.ChunkWithLines, _ ids: Set<Int64>?, excluding refused: Set<Int64>,
    _ approval: LimitApproval?
  ) async throws -> (QuarantineRetry.Outcome, RunReport?) {
    let run = try await RunLedger(connection: lockConnection).run(kept.runID)
    let catalog = try await catalog(of: run)
    let ledger = ChunkLedger(connection: lockConnection, lease: lease)
    let chunk = try await ledger.chunk(kept.chunkID)
    guard let dataset = run.definition.dataset(named: chunk.dataset) else {
      throw ChunkRefused(
        why: "its dataset is not in the definition of run \(run.id)", remedy: "dismiss the lines")
    }
    // The batches of this transaction need the tables' locks. They are taken before the chunk is locked, because other
    // batches lock in the same order: first the tables, and then their chunk. The opposite order could cause deadlocks.
    try await RowLock.take(
      dataset.allTargets.map(\.table) + [dataset.table], on: lockConnection,
      lockConnection.timeouts)
    let outcome = try await QuarantineRetry(connection: lockConnection, ledger: ledger)
      .retry(
        chunk, selected: ids, excluding: refused, reasons: Set(dataset.actions.keys),
        stored: ExportStage.stored(in: dataset, catalog: catalog))
    guard outcome.events > 0 else { return (outcome, nil) }
    // The stage does not log. If the transaction is rolled back, the events that the stage set aside are rolled
    // back, too, and log lines about them would be wrong.
    let stage = ApplyStage(
      connection: lockConnection, ledger: ledger, catalog: catalog, definition: run.definition,
      isEnclosed: true, logger: Logger(label: "lethe") { _ in SwiftLogNoOpLogHandler() })
    if case .stopped(let why) = try await stage.apply(ledger.chunk(chunk.id), dataset: dataset) {
      guard let approval else { throw limit(why, ids) }
      _ = try await ledger.approve(
        chunkID: chunk.id, runID: run.id, by: approval.by, note: approval.note)
      _ = try await stage.apply(ledger.chunk(chunk.id), dataset: dataset)
    }
    let refusals = try await ledger.refusalsOfThisTransaction(of: chunk)
    guard refusals.isEmpty else { throw EventsRefused(refusals: refusals) }
    logger.info(
      "\(chunk.label): \(outcome.events) quarantined lines are now events and are applied",
      metadata: chunk.metadata("collect"))
    return (outcome, try await PipelineRun(runtime: self, run: run, catalog: catalog).settle())
  }

  private func limit(_ why: String, _ ids: Set<Int64>?) -> ChunkRefused {
    let lines = (ids ?? []).sorted().map { " \($0)" }.joined()
    return ChunkRefused(
      why: why,
      remedy: """
        read the lines with lethe quarantine list --raw; then run lethe quarantine retry \
        \(shellWord(pipeline.file))\(lines) --approve --note TEXT, or dismiss the lines
        """, isLimit: true)
  }
}

extension PipelineRuntime.RetryReport {
  fileprivate mutating func add(_ outcome: QuarantineRetry.Outcome, _ run: RunReport?) {
    events += outcome.events
    superseded += outcome.superseded
    guard let run else { return }
    runs.removeAll { $0.runID == run.runID }
    runs.append(run)
  }
}

extension QuarantineLedger.ChunkWithLines {
  /// The metadata of log lines about the chunk.
  fileprivate var metadata: Logger.Metadata {
    ["stage": "apply", "run": "\(runID)", "chunk": "\(chunkID)"]
  }
}
