public import PostgreSQL
import Vocabulary

/// Returns those of the given IDs for which a chunk's dataset has rows. Rows that are no longer exported
/// count, too. The rows are read in the given transaction.
public typealias StoredIDs =
  @Sendable (_ ids: [Int64], _ transaction: Transaction) async throws -> [Int64]

/// Decides which of two answers about an ID counts: the answer of the job that the API created later. It does
/// not matter when the answers are collected or applied.
extension ChunkLedger {
  static let idsPerStatement: Int64 = 10_000

  /// Marks superseded events. The result of `attempt` supersedes events of older jobs that are not applied yet. Newer
  /// answers supersede events of that result.
  ///
  /// - Parameters:
  ///   - containing: returns those of the given IDs that were in the chunk.
  ///   - stored: returns those of the given IDs for which the chunk's dataset has rows.
  public func markSuperseded(
    by attempt: Attempt, of chunk: Chunk, containing: ([Int64]) throws -> [Int64],
    stored: StoredIDs, on transaction: Transaction
  ) async throws {
    try await lockAnswers(of: chunk, on: transaction)
    try await markOlder(than: attempt, chunk, containing, transaction)
    try await markByNewer(than: attempt.jobID, chunk, stored, transaction)
  }

  /// Marks the events of a chunk that newer answers have superseded. The newer answers count in every state of their
  /// chunks. Call it when a chunk goes back to `collected`, because newer answers might have been collected since the
  /// chunk's result.
  ///
  /// - Parameters:
  ///   - jobID: the job whose result has the chunk's events.
  ///   - stored: returns those of the given IDs for which the chunk's dataset has rows.
  /// - Returns: the number of the chunk's events that are not superseded and not applied.
  @discardableResult
  public func markSuperseded(
    jobID: Int64, of chunk: Chunk, stored: StoredIDs, on transaction: Transaction
  ) async throws -> Int {
    try await lockAnswers(of: chunk, on: transaction)
    try await markByNewer(than: jobID, chunk, stored, transaction)
    return try await transaction.query(
      """
      SELECT count(*) FROM lethe.collected AS s JOIN lethe.chunk AS c USING (chunk_id)
      WHERE c.chunk_id = \(chunk.id) AND s.superseded_by IS NULL
        AND s.id > coalesce(c.applied_through, c.first_id - 1)
      """
    ).onlyRow(as: Int.self)
  }

  /// Locks the answers of a type until the transaction ends. Without the lock, two transactions that collect results at
  /// the same time would not see each other's events.
  func lockAnswers(of chunk: Chunk, on transaction: Transaction) async throws {
    try await transaction.execute(
      "SELECT pg_advisory_xact_lock(hashtext('lethe.answers'), hashtext(\(chunk.type.rawValue)))")
  }

  /// Locks the answers of the chunk's type, and the chunks with older answers that are not applied, until the
  /// transaction ends. Call it before the holders are read. A batch of such a chunk then either has ended, so its
  /// holders are seen, or waits, so its events can be superseded. Without the locks, an ID that the batch protects
  /// meanwhile would stay protected although the newer result is silent about it.
  ///
  /// A transaction that takes both kinds of locks takes the lock of the answers first. Then it locks the older chunks
  /// in the order of their IDs, and its own chunk last.
  public func lockOlderAnswers(
    than jobID: Int64, of chunk: Chunk, on transaction: Transaction
  ) async throws {
    try await lockAnswers(of: chunk, on: transaction)
    _ = try await olderChunks(than: jobID, chunk, transaction)
  }

  /// Locks the chunks with answers of older jobs that are not applied.
  /// - Returns: their IDs, in ascending order.
  private func olderChunks(
    than jobID: Int64, _ chunk: Chunk, _ transaction: Transaction
  ) async throws -> [Int64] {
    try await transaction.query(
      """
      SELECT o.chunk_id
      FROM lethe.chunk AS o JOIN lethe.job AS oj ON oj.chunk_id = o.chunk_id, lethe.job AS j
      WHERE j.job_id = \(jobID) AND o.type = \(chunk.type.rawValue)::lethe.job_type
        AND o.state IN (\(states: ChunkState.withEvents))
        AND oj.result_sha256 IS NOT NULL AND (oj.asked_at, oj.job_id) < (j.asked_at, j.job_id)
        AND o.first_id <= \(chunk.lastID) AND o.last_id >= \(chunk.firstID)
        AND EXISTS (SELECT FROM lethe.collected AS s WHERE s.chunk_id = o.chunk_id)
      ORDER BY o.chunk_id FOR NO KEY UPDATE OF o
      """
    ).rows(as: Int64.self)
  }

  /// Marks events of other chunks that are not applied. Chunks that were set aside or given up are included, because
  /// their answers count, too. The result of `attempt` supersedes an event if it has an event about the ID, or answers
  /// for the ID by silence.
  ///
  /// The same answer from another dataset stays valid, because it is about other tables. A partly applied
  /// event stays valid, too, unless its chunk has failed: a failed chunk does not complete the event.
  private func markOlder(
    than attempt: Attempt, _ chunk: Chunk, _ containing: ([Int64]) throws -> [Int64],
    _ transaction: Transaction
  ) async throws {
    for other in try await olderChunks(than: attempt.jobID, chunk, transaction) {
      var after = chunk.firstID - 1
      while true {
        let ids = try await transaction.query(
          """
          SELECT id FROM lethe.collected
          WHERE chunk_id = \(other) AND id > \(after) AND id <= \(chunk.lastID) AND superseded_by IS NULL
          ORDER BY id LIMIT \(Self.idsPerStatement)
          """
        ).rows(as: Int64.self)
        guard let last = ids.last else { break }
        after = last
        try await mark(
          try containing(ids), of: other, supersededBy: attempt, of: chunk, transaction)
      }
      try await deleteSupersededEvents(of: other, transaction)
    }
  }

  /// - Parameter ids: IDs that are in both chunks.
  private func mark(
    _ ids: [Int64], of other: Int64, supersededBy attempt: Attempt, of chunk: Chunk,
    _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      UPDATE lethe.collected AS s SET superseded_by = \(attempt.jobID)
      FROM lethe.chunk AS o JOIN lethe.run AS r USING (run_id)
      WHERE s.chunk_id = \(other) AND s.id = ANY (\(ids)::bigint[]) AND o.chunk_id = s.chunk_id
        AND s.id > o.applied_through AND (s.changed IS NULL OR o.state = \(state: .failed))
        AND CASE WHEN EXISTS (SELECT FROM lethe.collected AS n
                              WHERE n.chunk_id = \(chunk.id) AND n.id = s.id)
            THEN o.dataset = \(chunk.dataset) AND r.pipeline = \(chunk.pipeline)
                 OR NOT EXISTS (SELECT FROM lethe.collected AS n
                                WHERE n.chunk_id = \(chunk.id) AND n.id = s.id AND n.reason = s.reason)
            ELSE EXISTS (SELECT FROM lethe.speaks_by_silence(\(attempt.jobID), s.id))
                 AND (o.dataset = \(chunk.dataset) AND r.pipeline = \(chunk.pipeline)
                   OR s.reason <> 'clean') END
      """)
  }

  /// Deletes the events of a failed chunk if newer answers have superseded all of them. As long as one event
  /// is not superseded, the chunk keeps all its events, so that it can be retried. The chunk also keeps its
  /// events as long as an older job has current events or can still get a result. Without the events, this
  /// chunk would seem to have been silent about their IDs.
  private func deleteSupersededEvents(of other: Int64, _ transaction: Transaction) async throws {
    try await transaction.execute(
      """
      DELETE FROM lethe.collected AS s USING lethe.chunk AS o
      WHERE s.chunk_id = \(other) AND o.chunk_id = s.chunk_id AND o.state = \(state: .failed)
        AND NOT EXISTS (SELECT FROM lethe.collected AS k
                        WHERE k.chunk_id = \(other) AND k.superseded_by IS NULL
                          AND k.id > o.applied_through)
        AND NOT EXISTS (SELECT FROM lethe.job AS oj, lethe.job AS l JOIN lethe.chunk AS c USING (chunk_id)
                        WHERE oj.chunk_id = \(other) AND oj.result_sha256 IS NOT NULL
                          AND l.ended_at IS NULL AND c.type = o.type
                          AND c.first_id <= o.last_id AND c.last_id >= o.first_id
                          AND (l.asked_at, l.job_id) < (oj.asked_at, oj.job_id))
        AND NOT EXISTS (SELECT FROM lethe.job AS oj, lethe.job AS l JOIN lethe.chunk AS c USING (chunk_id)
                        WHERE oj.chunk_id = \(other) AND oj.result_sha256 IS NOT NULL
                          AND l.result_sha256 IS NOT NULL AND c.type = o.type
                          AND c.state IN (\(states: ChunkState.withEvents))
                          AND c.first_id <= o.last_id AND c.last_id >= o.first_id
                          AND (l.asked_at, l.job_id) < (oj.asked_at, oj.job_id)
                          AND EXISTS (SELECT FROM lethe.collected AS k
                                      WHERE k.chunk_id = c.chunk_id AND k.superseded_by IS NULL
                                        AND k.id > c.applied_through))
      """)
  }

  /// Marks events of the job's result if a newer job has answered for their IDs with an event or by silence. The state
  /// of the newer job's chunk does not matter. A job for the same rows asked about each ID of its key range. For other
  /// jobs, the ledger records only the IDs with an event.
  private func markByNewer(
    than jobID: Int64, _ chunk: Chunk, _ stored: StoredIDs, _ transaction: Transaction
  ) async throws {
    let newer: SQL = """
      SELECT n.chunk_id, nj.job_id, nj.asked_at, n.first_id, n.last_id,
             n.dataset = c.dataset AND nr.pipeline = r.pipeline AS is_same_dataset,
             lethe.exported_rows(nr.definition, n.dataset)
               = lethe.exported_rows(r.definition, c.dataset) AS is_of_same_rows
      FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id) JOIN lethe.run AS r USING (run_id)
      JOIN lethe.chunk AS n ON n.type = c.type AND n.first_id <= c.last_id AND n.last_id >= c.first_id
      JOIN lethe.job AS nj ON nj.chunk_id = n.chunk_id AND nj.result_sha256 IS NOT NULL
      JOIN lethe.run AS nr ON nr.run_id = n.run_id
      WHERE j.job_id = \(jobID) AND (nj.asked_at, nj.job_id) > (j.asked_at, j.job_id)
      """
    let hasNewer = try await transaction.query(
      "SELECT EXISTS (\(newer))"
    ).onlyRow(as: Bool.self)
    guard hasNewer else { return }
    try await gatherTraces(of: newer, chunk, transaction)
    let answers: SQL = """
      newer AS n
      JOIN lethe.collected AS o ON o.chunk_id = \(chunk.id) AND o.id BETWEEN n.first_id AND n.last_id
      JOIN lethe.chunk AS oc ON oc.chunk_id = o.chunk_id
      WHERE o.superseded_by IS NULL AND (o.changed IS NULL OR oc.state = \(state: .failed))
      """
    let silent: SQL = """
      WITH newer AS MATERIALIZED (\(newer))
      INSERT INTO lethe_silent (id)
      SELECT DISTINCT o.id FROM \(answers) AND NOT \(Self.newerEvent()) AND \(Self.isAnsweredBySilence)
      """
    try await gatherStored(silent, chunk, stored, transaction)
    try await transaction.execute(
      """
      WITH newer AS MATERIALIZED (\(newer))
      UPDATE lethe.collected AS s SET superseded_by = a.job_id
      FROM (
        SELECT DISTINCT ON (o.id) o.id, n.job_id FROM \(answers) AND \(Self.isAnswered)
        ORDER BY o.id, n.asked_at DESC, n.job_id DESC
      ) AS a
      WHERE s.chunk_id = \(chunk.id) AND s.id = a.id
      """)
  }

  /// Fills `lethe_traced` with the IDs in the traces of newer jobs' chunks. Unpacking each trace once is
  /// faster than looking each event up in it.
  private func gatherTraces(
    of newer: SQL, _ chunk: Chunk, _ transaction: Transaction
  ) async throws {
    try await transaction.runScript(
      """
      CREATE TEMP TABLE IF NOT EXISTS lethe_traced (
          chunk_id bigint, id bigint, reason lethe.reason NOT NULL, PRIMARY KEY (chunk_id, id)
      ) ON COMMIT DROP;
      DELETE FROM lethe_traced
      """)
    try await transaction.execute(
      """
      INSERT INTO lethe_traced (chunk_id, id, reason)
      SELECT n.chunk_id, e.id, t.reason
      FROM (SELECT DISTINCT chunk_id FROM (\(newer)) AS all_newer) AS n
      JOIN lethe.trace AS t ON t.chunk_id = n.chunk_id AND t.first_id <= \(chunk.lastID)
        AND t.last_id >= \(chunk.firstID)
      CROSS JOIN LATERAL lethe.traced(t.first_id, t.events, t.distances, NULL, NULL) AS e
      ON CONFLICT DO NOTHING
      """)
  }

  /// Fills `lethe_stored` with the IDs about which a newer job is silent and for which the chunk's dataset
  /// still has rows.
  private func gatherStored(
    _ silent: SQL, _ chunk: Chunk, _ stored: StoredIDs,
    _ transaction: Transaction
  ) async throws {
    try await transaction.runScript(
      """
      CREATE TEMP TABLE IF NOT EXISTS lethe_stored (id bigint PRIMARY KEY) ON COMMIT DROP;
      CREATE TEMP TABLE IF NOT EXISTS lethe_silent (id bigint PRIMARY KEY) ON COMMIT DROP;
      DELETE FROM lethe_stored; DELETE FROM lethe_silent
      """)
    try await transaction.execute(silent)
    var after = chunk.firstID - 1
    while true {
      let ids = try await transaction.query(
        """
        SELECT id FROM lethe_silent WHERE id > \(after) ORDER BY id LIMIT \(literal: Self.idsPerStatement)
        """
      ).rows(as: Int64.self)
      guard let last = ids.last else { return }
      after = last
      try await transaction.execute(
        """
        INSERT INTO lethe_stored (id) SELECT *
        FROM pg_catalog.unnest(\(try await stored(ids, transaction))::bigint[])
        """
      )
    }
  }

  /// Whether the newer job `n` has answered for the event `o`, by the rules for events of older jobs. The
  /// ledger no longer records which IDs the job asked about, so the job's silence counts less:
  ///
  /// - Silence does not supersede a clean answer. If the job asked about the ID, silence means clean, too. If
  ///   the job did not ask, the clean answer is the only answer that releases the ID.
  /// - Silence supersedes any other answer only if the ID still has a row, inside or outside `where`. If the
  ///   ID has no row, no later job asks about the ID, and the ID's data in other tables would never be
  ///   changed.
  private static let isAnswered: SQL = """
    CASE WHEN \(newerEvent())
    THEN n.is_same_dataset OR NOT \(newerEvent(andAlso: "e.reason = o.reason"))
    ELSE \(isAnsweredBySilence) AND EXISTS (SELECT FROM lethe_stored AS k WHERE k.id = o.id) END
    """

  private static let isAnsweredBySilence: SQL = """
    (n.is_of_same_rows AND o.reason <> 'clean' AND EXISTS (SELECT FROM lethe.speaks_by_silence(n.job_id, o.id)))
    """

  /// Whether the newer job has an event about the ID of `o`. The event can be waiting, refused, or applied with a
  /// record or a trace.
  private static func newerEvent(andAlso condition: SQL = "true") -> SQL {
    let isMatch: SQL = "e.chunk_id = n.chunk_id AND e.id = o.id AND \(condition)"
    return """
      (EXISTS (SELECT FROM lethe.collected AS e WHERE \(isMatch))
       OR EXISTS (SELECT FROM lethe.refusal AS e WHERE \(isMatch))
       OR EXISTS (SELECT FROM lethe.event AS e WHERE \(isMatch) AND e.cause_id IS NULL)
       OR EXISTS (SELECT FROM lethe_traced AS e WHERE \(isMatch)))
      """
  }
}
