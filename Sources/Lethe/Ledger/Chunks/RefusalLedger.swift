import CrashPoints
public import PostgreSQL
import Vocabulary

/// The records of apply about events that the warehouse refuses, and about chunks that are set aside. An operator can
/// retry the events, and those chunks for which a retry can succeed.
extension ChunkLedger {
  /// An event that the warehouse refuses.
  public struct Refusal: Sendable, Equatable {
    public let id: Int64
    /// The reason, with names of tables, constraints and keys, but never with the content of a row.
    public let why: String
    public let remedy: String

    public init(id: Int64, why: String, remedy: String) {
      self.id = id
      self.why = why
      self.remedy = remedy
    }
  }

  /// The largest number of refused events of a chunk. With more, the chunk is set aside.
  public static let refusalsMax = 100

  /// Moves events from `lethe.collected` to `lethe.refusal`. An event that a newer answer has superseded since is not
  /// moved, because it changes nothing any more.
  public func eventsRefused(
    _ refusals: [Refusal], of chunk: Chunk, on transaction: Transaction
  ) async throws {
    try await ChunkQueries.guarded(
      transaction, chunk.label,
      """
      SELECT FROM lethe.chunk WHERE chunk_id = \(chunk.id) AND lease = \(lease.token)
        AND state = \(state: .collected)
      FOR NO KEY UPDATE
      """)
    try await transaction.execute(
      """
      WITH refused AS (
        DELETE FROM lethe.collected AS s
        USING unnest(\(refusals.map(\.id))::bigint[], \(prose: refusals.map(\.why))::text[],
          \(prose: refusals.map(\.remedy))::text[]) AS f (id, why, remedy)
        WHERE s.chunk_id = \(chunk.id) AND s.id = f.id AND s.superseded_by IS NULL
        RETURNING s.chunk_id, s.id, s.reason, pg_catalog.to_jsonb(s) AS event, f.why, f.remedy
      )
      INSERT INTO lethe.refusal (chunk_id, id, reason, event, why, remedy)
      SELECT chunk_id, id, reason, event, why, remedy FROM refused
      ON CONFLICT (chunk_id, id) DO UPDATE
      SET reason = excluded.reason, event = excluded.event, why = excluded.why, remedy = excluded.remedy,
          refused_at = excluded.refused_at, resolved_at = NULL, resolution = NULL, superseded_by = NULL
      """)
  }

  /// Removes events from `lethe.collected`. Only for a transaction that is rolled back.
  public func leaveOut(
    _ ids: [Int64], of chunk: Chunk, on transaction: Transaction
  ) async throws {
    guard !ids.isEmpty else { return }
    try await transaction.execute(
      "DELETE FROM lethe.collected WHERE chunk_id = \(chunk.id) AND id = ANY (\(ids)::bigint[])")
  }

  /// The number of the chunk's events that are refused and not resolved.
  public func openRefusals(of chunk: Chunk) async throws -> Int {
    try await connection.query(
      "SELECT count(*) FROM lethe.refusal WHERE chunk_id = \(chunk.id) AND resolved_at IS NULL"
    ).onlyRow(as: Int.self)
  }

  /// The number of events of a range that wait to be applied, or to be recorded as superseded.
  public func events(
    of chunk: Chunk, after: Int64, through: Int64, on session: some Session
  ) async throws -> Int {
    try await session.query(
      """
      SELECT count(*) FROM lethe.collected WHERE chunk_id = \(chunk.id) AND id > \(after)
        AND id <= \(through)
      """
    ).onlyRow(as: Int.self)
  }

  /// Whether events of a range wait to be applied, or to be recorded as superseded.
  public func hasEvents(
    of chunk: Chunk, after: Int64, through: Int64, on session: some Session
  ) async throws -> Bool {
    try await session.query(
      """
      SELECT EXISTS (SELECT FROM lethe.collected WHERE chunk_id = \(chunk.id) AND id > \(after)
        AND id <= \(through))
      """
    ).onlyRow(as: Bool.self)
  }

  /// Sets aside a chunk that cannot continue. The rest of its run continues. The applied batches of the chunk stay and
  /// are sealed. The chunk's other events are kept.
  ///
  /// - Parameter isRetryable: whether a retry can succeed.
  public func chunkSetAside(
    _ chunk: Chunk, why: String, remedy: String, isRetryable: Bool
  ) async throws {
    try await connection.withTransaction(recording: .chunkSetAside) { transaction in
      try await fail(chunk, why: why, isRetryable: isRetryable, on: transaction)
      try await transaction.execute(
        """
        UPDATE lethe.chunk SET remedy = \(prose: remedy), stopped_reason = NULL WHERE chunk_id = \(chunk.id)
        """
      )
      try await transaction.execute(Self.ending("j.chunk_id = \(chunk.id)", why: why))
      try await transaction.execute(
        """
        SELECT lethe.seal('job', j.job_id, j.chunk_id, lethe.job_content(j.job_id))
        FROM lethe.job AS j
        WHERE j.chunk_id = \(chunk.id) AND j.result_sha256 IS NOT NULL
          AND (SELECT count(*) FROM lethe.batch AS b WHERE b.chunk_id = j.chunk_id)
            > coalesce((SELECT (s.content::jsonb ->> 'batches')::bigint FROM lethe.seal AS s
                        WHERE s.chunk_id = j.chunk_id ORDER BY s.number DESC LIMIT 1), 0)
        """)
    }
  }

  /// Resolves refusals of the dataset's older jobs as superseded, if the result that is being collected answers for
  /// their IDs by silence.
  ///
  /// - Parameter containing: returns those of the given IDs that were in the chunk. Silence is no answer for other IDs.
  public func refusalsAnsweredBySilence(
    of attempt: Attempt, _ chunk: Chunk, containing: ([Int64]) throws -> [Int64],
    on transaction: Transaction
  ) async throws {
    let jobID: SQL = "\(attempt.jobID)"
    let older: SQL = """
      lethe.refusal AS f JOIN lethe.chunk AS c USING (chunk_id) JOIN lethe.run AS r USING (run_id)
      JOIN lethe.job AS j ON j.chunk_id = c.chunk_id AND j.result_sha256 IS NOT NULL, lethe.job AS nj
      WHERE nj.job_id = \(jobID) AND f.resolved_at IS NULL AND (j.asked_at, j.job_id) < (nj.asked_at,
        nj.job_id)
        AND r.pipeline = \(chunk.pipeline) AND c.dataset = \(chunk.dataset)
          AND c.type = \(chunk.type.rawValue)::lethe.job_type
      """
    var after = chunk.firstID - 1
    while true {
      let ids = try await transaction.run(
        """
        SELECT DISTINCT f.id FROM \(older) AND f.id > \(after) AND f.id <= \(chunk.lastID)
        ORDER BY f.id LIMIT \(Self.idsPerStatement)
        """
      ).rows(as: Int64.self)
      guard let last = ids.last else { return }
      after = last
      _ = try await transaction.run(
        """
        UPDATE lethe.refusal AS done
        SET resolved_at = clock_timestamp(), resolution = 'superseded', superseded_by = \(jobID)
        FROM (SELECT f.chunk_id, f.id FROM \(older)
          AND f.id = ANY (\(try containing(ids))::bigint[])) AS silent
        WHERE done.chunk_id = silent.chunk_id AND done.id = silent.id AND done.resolved_at IS NULL
          AND EXISTS (SELECT FROM lethe.speaks_by_silence(\(jobID), done.id))
          AND NOT EXISTS (SELECT FROM lethe.collected AS s WHERE s.chunk_id = \(chunk.id)
            AND s.id = done.id)
        """)
    }
  }

  // MARK: Retries

  /// Prepares a retry of a chunk that was set aside, or of refused events of an applied chunk: the events wait to be
  /// applied again. Events that newer answers have superseded are recorded and change nothing. The limits are checked
  /// again, even if the chunk was approved before.
  ///
  /// - Parameter ids: only refused events of these IDs. With nil, all events that are left of the chunk.
  public func retried(
    _ chunk: Chunk, ids: Set<Int64>?, stored: StoredIDs
  ) async throws {
    let jobID = try await collectedJob(of: chunk).id
    try await connection.withTransaction { transaction in
      // The locks are taken in the same order as when a result is collected, to avoid deadlocks.
      try await lockAnswers(of: chunk, on: transaction)
      try await ChunkQueries.guarded(
        transaction, chunk.label,
        """
        SELECT FROM lethe.chunk WHERE chunk_id = \(chunk.id)
          AND state = \(state: chunk.state)
        FOR NO KEY UPDATE
        """)
      // The deleted events already have records in lethe.event or lethe.trace.
      try await transaction.execute(
        """
        DELETE FROM lethe.collected AS s USING lethe.chunk AS c
        WHERE c.chunk_id = \(chunk.id) AND s.chunk_id = c.chunk_id AND s.id <= c.applied_through
        """)
      try await transaction.execute(
        """
        WITH taken AS (
          UPDATE lethe.refusal SET resolved_at = clock_timestamp(), resolution = 'retried'
          WHERE chunk_id = \(chunk.id) AND resolved_at IS NULL
            AND (\(ids?.sorted())::bigint[] IS NULL OR id = ANY (\(ids?.sorted())::bigint[]))
          RETURNING event
        )
        INSERT INTO lethe.collected
        SELECT (pg_catalog.jsonb_populate_record(NULL::lethe.collected, event)).* FROM taken
        """)
      try await markSuperseded(jobID: jobID, of: chunk, stored: stored, on: transaction)
      try await reopen(chunk, on: transaction)
    }
    try await refreshStatistics()
  }

  private func reopen(_ chunk: Chunk, on transaction: Transaction) async throws {
    try await ChunkQueries.guarded(
      transaction, chunk.label,
      ChunkTransition.retried.update(
        of: chunk, heldBy: nil,
        setting: """
          failure = NULL, remedy = NULL, is_retryable = NULL, applied_through = first_id - 1,
          approved_at = NULL, stopped_reason = NULL, lease = \(lease.token)
          """))
    // If the run was given up, it stays given up, and only the retried chunk continues.
    try await transaction.executeOne(
      """
      UPDATE lethe.run \(RunLedger.takeoverMarker)
      SET status = \(run: .running), finished_at = NULL, lease = \(lease.token),
          failure = CASE WHEN is_given_up THEN failure END
      WHERE run_id = \(chunk.runID)
      """)
  }
}
