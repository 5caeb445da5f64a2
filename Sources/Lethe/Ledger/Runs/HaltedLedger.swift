import CrashPoints
import PostgreSQL
import Vocabulary

/// What waits for an operator: chunks that are stopped or set aside, and events that were refused.
extension RunLedger {
  /// A chunk that cannot continue without an operator.
  public struct HaltedChunk: Sendable, Equatable {
    public let chunkID: Int64
    public let runID: Int64
    public let pipeline: String
    /// The path of the definition's file, as it was given in the last command that worked on the run.
    public let definitionFile: String?
    public let dataset: String
    public let reason: String
    public let remedy: String?
    /// True if the chunk is set aside, false if a limit has stopped it.
    public let isSetAside: Bool
    /// For a chunk that is set aside: whether a retry can succeed, with this chunk or with a new chunk of the same IDs.
    public let isRetryable: Bool
    /// Whether `lethe retry` can apply the rest of the chunk: it was collected, a retry can succeed, and its events are
    /// still in the ledger.
    public let hasEvents: Bool
  }

  /// An event that the warehouse refused and that is not resolved.
  public struct RefusedEvent: Sendable, Equatable {
    public let chunkID: Int64
    public let runID: Int64
    public let pipeline: String
    public let definitionFile: String?
    public let dataset: String
    public let id: Int64
    public let reason: String
    public let why: String
    public let remedy: String
  }

  /// The chunks of a run that are set aside or stopped.
  public func halted(of run: Run) async throws -> [HaltedChunk] {
    try await halted(where: "c.run_id = \(run.id)")
  }

  /// A dataset of a run that was not completely exported.
  public struct HaltedExport: Sendable {
    public let dataset: String
    public let why: String
    /// True if nothing was exported because too many rows would be left out, false if the export failed.
    public let isStopped: Bool
  }

  public func haltedExports(of run: Run) async throws -> [HaltedExport] {
    try await connection.query(
      """
      SELECT dataset, failure, is_stopped FROM lethe.export
      WHERE run_id = \(run.id) AND failure IS NOT NULL ORDER BY dataset
      """
    ).rows(as: String.self, String.self, Bool.self)
      .map { HaltedExport(dataset: $0.0, why: $0.1, isStopped: $0.2) }
  }

  /// The chunks of all runs that are still set aside or stopped. A chunk that is set aside is left out if a newer run
  /// has results for its whole key range.
  /// - Parameter pipeline: chunks of this pipeline only.
  public func halted(pipeline: String?) async throws -> [HaltedChunk] {
    try await halted(
      where: "\(Self.isOf(pipeline)) AND (c.state <> \(state: .failed) OR NOT \(Self.isObsolete))")
  }

  private static func isOf(_ pipeline: String?) -> SQL {
    let pipeline: SQL = "\(pipeline)"
    return "(\(pipeline)::text IS NULL OR r.pipeline = \(pipeline))"
  }

  /// Whether a newer run has exported the dataset, and has a result for every chunk in this chunk's key
  /// range.
  private static let isObsolete: SQL = """
    EXISTS (
      SELECT FROM lethe.run AS nr JOIN lethe.export AS ne USING (run_id)
      WHERE nr.pipeline = r.pipeline AND nr.run_id > r.run_id AND ne.dataset = c.dataset
        AND ne.finished_at IS NOT NULL AND ne.failure IS NULL
        AND NOT EXISTS (SELECT FROM lethe.chunk AS n
                        WHERE n.run_id = nr.run_id AND n.dataset = c.dataset
                          AND n.first_id <= c.last_id AND n.last_id >= c.first_id
                          AND n.collected_at IS NULL))
    """

  private func halted(
    where condition: SQL
  ) async throws -> [HaltedChunk] {
    try await connection.run(
      """
      SELECT c.chunk_id, c.run_id, r.pipeline, r.definition_file, c.dataset,
             coalesce(c.failure, c.stopped_reason) AS reason, c.remedy, c.state = \(state: .failed) AS is_set_aside,
             coalesce(c.is_retryable, true) AS is_retryable,
             coalesce(c.is_retryable, false) AND c.collected_at IS NOT NULL
               AND (c.events = 0
                    OR EXISTS (SELECT FROM lethe.collected AS s WHERE s.chunk_id = c.chunk_id)
                    OR EXISTS (SELECT FROM lethe.refusal AS f
                               WHERE f.chunk_id = c.chunk_id AND f.resolved_at IS NULL)) AS has_events
      FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
      WHERE (c.state = \(state: .failed) OR c.stopped_reason IS NOT NULL) AND \(condition)
      ORDER BY c.chunk_id
      """
    ).rows.map { row in
      try HaltedChunk(
        chunkID: row["chunk_id"], runID: row["run_id"], pipeline: row["pipeline"],
        definitionFile: row["definition_file"], dataset: row["dataset"],
        reason: row["reason"], remedy: row["remedy"], isSetAside: row["is_set_aside"],
        isRetryable: row["is_retryable"], hasEvents: row["has_events"])
    }
  }

  /// The events of a run that are refused and not resolved.
  public func refused(of run: Run) async throws -> [RefusedEvent] {
    try await refused(where: "c.run_id = \(run.id)")
  }

  /// The events of all runs that are refused and not resolved.
  /// - Parameter pipeline: events of this pipeline only.
  public func refused(pipeline: String?) async throws -> [RefusedEvent] {
    try await refused(where: Self.isOf(pipeline))
  }

  private func refused(
    where condition: SQL
  ) async throws -> [RefusedEvent] {
    try await connection.run(
      """
      SELECT f.chunk_id, c.run_id, r.pipeline, r.definition_file, c.dataset, f.id, f.reason::text,
             f.why, f.remedy
      FROM lethe.refusal AS f JOIN lethe.chunk AS c USING (chunk_id) JOIN lethe.run AS r USING (run_id)
      WHERE f.resolved_at IS NULL AND \(condition)
      ORDER BY f.chunk_id, f.id
      """
    ).rows.map { row in
      try RefusedEvent(
        chunkID: row["chunk_id"], runID: row["run_id"], pipeline: row["pipeline"],
        definitionFile: row["definition_file"], dataset: row["dataset"], id: row["id"],
        reason: row["reason"], why: row["why"], remedy: row["remedy"])
    }
  }

  /// Ends the refusals of a pipeline if a newer job has answered for their IDs with an event. Answers by
  /// silence have ended refusals already, when the result was collected.
  public func endSupersededRefusals(pipeline: String) async throws {
    try await connection.execute(
      recording: .supersededRefusalsEnded,
      """
      UPDATE lethe.refusal AS f
      SET resolved_at = clock_timestamp(), resolution = 'superseded', superseded_by = newer.job_id
      FROM (
        SELECT f.chunk_id, f.id, max(nj.job_id) AS job_id
        FROM lethe.refusal AS f
        JOIN lethe.chunk AS c ON c.chunk_id = f.chunk_id JOIN lethe.run AS r ON r.run_id = c.run_id
        JOIN lethe.job AS j ON j.chunk_id = c.chunk_id AND j.result_sha256 IS NOT NULL
        JOIN lethe.run AS nr ON nr.pipeline = r.pipeline
        JOIN lethe.chunk AS n ON n.run_id = nr.run_id AND n.dataset = c.dataset AND n.type = c.type
          AND f.id BETWEEN n.first_id AND n.last_id
        JOIN lethe.job AS nj ON nj.chunk_id = n.chunk_id AND nj.result_sha256 IS NOT NULL
          AND (nj.asked_at, nj.job_id) > (j.asked_at, j.job_id)
        WHERE f.resolved_at IS NULL AND r.pipeline = \(pipeline)
          AND (EXISTS (SELECT FROM lethe.collected AS s WHERE s.chunk_id = n.chunk_id AND s.id = f.id)
               OR EXISTS (SELECT FROM lethe.refusal AS o WHERE o.chunk_id = n.chunk_id AND o.id = f.id)
               OR EXISTS (SELECT FROM lethe.event AS e
                          WHERE e.chunk_id = n.chunk_id AND e.id = f.id AND e.cause_id IS NULL)
               OR EXISTS (SELECT FROM lethe.traced_reason(n.chunk_id, f.id)))
        GROUP BY f.chunk_id, f.id
      ) AS newer
      WHERE f.chunk_id = newer.chunk_id AND f.id = newer.id AND f.resolved_at IS NULL
      """)
  }

  // MARK: Retries

  /// A chunk to retry, and the IDs of its refused events to retry. If `ids` is nil, the rest of the chunk is
  /// retried.
  public struct RetryableChunk: Sendable, Equatable {
    public let chunkID: Int64
    public let runID: Int64
    public let ids: Set<Int64>?
  }

  /// Finds the chunks and events of a pipeline that can be retried.
  ///
  /// - Parameters:
  ///   - chunkID: this chunk only.
  ///   - ids: the refused events of these IDs only. If it is empty, the rest of the chunk `chunkID` is retried.
  /// - Throws: `LedgerError` with the chunk or the IDs that cannot be retried, and why.
  public func retryable(
    chunkID: Int64?, ids: Set<Int64>, pipeline: String
  ) async throws -> [RetryableChunk] {
    if let chunkID, ids.isEmpty { return [try await retryable(chunkID, pipeline: pipeline)] }
    let refused = try await refused(pipeline: pipeline)
      .filter { ids.contains($0.id) && (chunkID ?? $0.chunkID) == $0.chunkID }
    let missing = ids.subtracting(refused.map(\.id)).sorted()
    guard missing.isEmpty else {
      throw LedgerError(
        code: .missing,
        message: """
          \(chunkID.map { "chunk \($0) of " } ?? "")\(pipeline) has no open refused event of the ID \
          \(missing.map(String.init).joined(separator: ", ")); nothing was changed
          """, remedy: "run lethe status to see the refused IDs")
    }
    for id in Set(refused.map(\.chunkID)) { try await requireApplied(id) }
    return Dictionary(grouping: refused, by: \.chunkID).sorted { $0.key < $1.key }.map {
      RetryableChunk(chunkID: $0.key, runID: $0.value[0].runID, ids: Set($0.value.map(\.id)))
    }
  }

  private func requireApplied(_ chunkID: Int64) async throws {
    let state = try await connection.query(
      "SELECT state::text FROM lethe.chunk WHERE chunk_id = \(chunkID)"
    ).onlyRow(as: ChunkState.self)
    guard state != .applied else { return }
    throw LedgerError(
      code: .refused,
      message: "chunk \(chunkID) is not completely applied yet; nothing was changed",
      remedy: state == .failed
        ? "retry the chunk: lethe retry PIPELINE \(chunkID)"
        : "finish the chunk: lethe run PIPELINE --resume-only")
  }

  private func retryable(_ chunkID: Int64, pipeline: String) async throws -> RetryableChunk {
    let row = try await connection.query(
      """
      SELECT c.run_id, c.state::text, c.collected_at IS NOT NULL,
             EXISTS (SELECT FROM lethe.refusal AS f
                     WHERE f.chunk_id = c.chunk_id AND f.resolved_at IS NULL)
      FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
      WHERE c.chunk_id = \(chunkID) AND r.pipeline = \(pipeline)
      """
    ).firstRow(as: Int64.self, ChunkState.self, Bool.self, Bool.self)
    guard let (runID, state, isCollected, hasRefusals) = row else {
      throw LedgerError(
        code: .missing, message: "there is no chunk \(chunkID) of the pipeline \(pipeline)",
        remedy: "lethe status lists the chunks that are set aside")
    }
    let chunk = RetryableChunk(chunkID: chunkID, runID: runID, ids: nil)
    let asksAgain = "do nothing: the next lethe run asks about its IDs again"
    switch state {
    case .applied where hasRefusals: return chunk
    case .failed where !isCollected:
      throw LedgerError(
        code: .refused,
        message: "chunk \(chunkID) failed before it had a result: there is nothing to apply",
        remedy: asksAgain)
    case .failed:
      guard
        try await halted(where: "c.chunk_id = \(chunkID)").first?.hasEvents == true
      else {
        throw LedgerError(
          code: .refused,
          message:
            "chunk \(chunkID) has no events any more: newer answers have superseded them, or they were lost",
          remedy: asksAgain)
      }
      return chunk
    case .exported, .created, .uploaded, .complete, .collected, .applied:
      throw LedgerError(
        code: .refused, message: "chunk \(chunkID) is \(state) and not set aside",
        remedy: "lethe status lists the chunks that are set aside")
    }
  }
}
