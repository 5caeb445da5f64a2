import PostgreSQL
public import Vocabulary

/// Ends an unfinished run. Its applied changes and their records stay.
extension RunLedger {
  /// The job of an open attempt of a run. It might still be running at the API.
  public struct LiveJob: Sendable, Equatable {
    public let jobID: Int64
    public let name: String
    public let type: JobType
    /// Nil if it is unknown whether the API has created the job.
    public let apiID: String?
  }

  /// The jobs of the run's open attempts. They include complete jobs whose results are not collected, and jobs for
  /// which it is unknown whether the API created them.
  public func liveJobs(of runID: Int64) async throws -> [LiveJob] {
    try await connection.query(
      """
      SELECT job_id, name, type::text, api_id FROM lethe.job JOIN lethe.chunk USING (chunk_id)
      WHERE run_id = \(runID) AND ended_at IS NULL ORDER BY job_id
      """
    ).rows(as: Int64.self, String.self, JobType.self, String?.self).map {
      LiveJob(jobID: $0.0, name: $0.1, type: $0.2, apiID: $0.3)
    }
  }

  /// Records that no process waits for the job any more.
  /// - Parameter what: what happened to the job at the API.
  public func jobGivenUp(_ job: LiveJob, _ what: String) async throws {
    try await connection.execute(
      ChunkLedger.ending("j.job_id = \(job.jobID)", why: "\(Self.givenUpFailure); \(what)"))
  }

  /// Records that an operator gave the run up. Everything that is not applied fails, and the next run asks
  /// about its IDs again. The ledger keeps the results of the run until newer results answer for the same
  /// IDs. Otherwise an older answer could be applied again.
  public func runGivenUp(_ runID: Int64, lease: Lease) async throws {
    let why = Self.givenUpFailure
    try await connection.withTransaction { transaction in
      try await recordPartlyApplied(runID, transaction)
      try await transaction.execute(
        ChunkLedger.ending(
          "j.chunk_id IN (SELECT c.chunk_id FROM lethe.chunk AS c WHERE c.run_id = \(runID))",
          why: why))
      try await transaction.execute(
        """
        UPDATE lethe.chunk
        SET \(ChunkTransition.failed.assignments), failure = \(why), is_retryable = true,
            stopped_reason = NULL
        WHERE run_id = \(runID) AND state IN (\(states: ChunkTransition.failed.from))
        """)
      // The applied batches of a chunk stay, so a record of its job is sealed, as for a completely applied chunk.
      try await transaction.execute(
        """
        SELECT lethe.seal('job', j.job_id, c.chunk_id, lethe.job_content(j.job_id))
        FROM lethe.chunk AS c JOIN lethe.job AS j USING (chunk_id)
        WHERE c.run_id = \(runID) AND j.result_sha256 IS NOT NULL
          AND (SELECT count(*) FROM lethe.batch AS b WHERE b.chunk_id = c.chunk_id)
            > coalesce((SELECT (s.content::jsonb ->> 'batches')::bigint FROM lethe.seal AS s
                        WHERE s.chunk_id = c.chunk_id ORDER BY s.number DESC LIMIT 1), 0)
        """)
      try await ChunkQueries.guarded(
        transaction, "run \(runID)",
        """
        UPDATE lethe.run
        SET status = \(run: .failed), finished_at = clock_timestamp(), failure = \(why), is_given_up = true
        WHERE run_id = \(runID) AND lease = \(lease.token) AND finished_at IS NULL
        """)
    }
  }

  // MARK: Partly applied events

  /// Writes the records of partly applied events. An event that reaches many rows is applied in several
  /// transactions, and the last of them records the event. The run ends before that transaction, so the
  /// record is written here. It contains what was done, and its batch does not move the chunk's position. The
  /// rest of the event waits without these counts. If its chunk is retried, the rest gets a record, too.
  private func recordPartlyApplied(_ runID: Int64, _ transaction: Transaction) async throws {
    let parts = Self.parts(of: runID)
    let hasParts = try await transaction.query(
      "SELECT EXISTS (SELECT FROM (\(parts)) AS part)"
    ).onlyRow(as: Bool.self)
    guard hasParts else { return }
    try await transaction.execute("SELECT lethe.ensure_event_partitions(now())")
    try await transaction.execute(
      """
      INSERT INTO lethe.event
        (id, type, reason, action, chunk_id, job_id, created_at, redacted_at, applied_at, changed,
         superseded_by, batch)
      SELECT id, type, reason, \(Self.actionOfPart), chunk_id, job_id, created_at, redacted_at, now(),
             changed, superseded_by, number
      FROM (\(parts)) AS part
      """)
    try await transaction.execute(
      """
      INSERT INTO lethe.batch (chunk_id, number, after_id, through_id, records, sha256)
      SELECT n.chunk_id, n.number, n.applied_through, n.applied_through, d.records, d.sha256
      FROM (SELECT DISTINCT chunk_id, number, applied_through FROM (\(parts)) AS part) AS n,
           lethe.event_digest(n.chunk_id, n.number) AS d
      """)
    // Posts and users that the event removed in other tables already have tombstones. The event's own ID gets a
    // tombstone if its rows were removed.
    try await transaction.execute(
      """
      INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
      SELECT type, id, reason, job_id, now() FROM (\(parts)) AS part
      WHERE superseded_by IS NULL AND dataset_definition -> 'tombstones' = 'true'
        AND changed ?| (SELECT pg_catalog.array_agg(word || ' ' || pg_catalog.concat_ws('.', dataset_definition #>> '{table,schema}',
                                                                  dataset_definition #>> '{table,name}'))
                        FROM pg_catalog.unnest('{delete,redact}'::text[]) AS word)
      ON CONFLICT (type, id) DO NOTHING
      """)
    try await transaction.execute(
      """
      UPDATE lethe.collected AS s SET changed = NULL
      FROM lethe.chunk AS c
      WHERE c.run_id = \(runID) AND c.state = \(state: .collected) AND s.chunk_id = c.chunk_id
        AND s.changed IS NOT NULL
      """)
  }

  /// The partly applied events of a run, each with the number of the batch that is to record it. The query also works
  /// for a definition that this version cannot read.
  private static func parts(of runID: Int64) -> SQL {
    """
    SELECT s.chunk_id, s.id, s.reason, s.created_at, s.redacted_at, s.changed, s.superseded_by, c.type,
           c.applied_through, j.job_id,
           (SELECT coalesce(max(b.number), 0) + 1 FROM lethe.batch AS b WHERE b.chunk_id = c.chunk_id)
             AS number,
           (SELECT d FROM pg_catalog.jsonb_array_elements(CASE jsonb_typeof(r.definition -> 'datasets')
                                               WHEN 'array' THEN r.definition -> 'datasets' ELSE '[]' END) AS d
            WHERE d ->> 'name' = c.dataset LIMIT 1) AS dataset_definition
    FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id) JOIN lethe.collected AS s USING (chunk_id)
    JOIN lethe.job AS j ON j.chunk_id = c.chunk_id AND j.result_sha256 IS NOT NULL
    WHERE c.run_id = \(runID) AND c.state = \(state: .collected) AND s.changed IS NOT NULL
    """
  }

  /// The dataset's action for the reason. For a clean answer, this is `restore`. If the definition has no action for
  /// the reason, this is the action that was applied.
  private static let actionOfPart: SQL = """
    CASE reason WHEN 'clean' THEN 'restore'::lethe.action ELSE coalesce(
      (SELECT label FROM pg_catalog.unnest(pg_catalog.enum_range(NULL::lethe.action)) AS label
       WHERE dataset_definition -> 'actions' -> reason::text
         ? CASE label WHEN 'scrub_geo' THEN 'scrubGeo' ELSE label::text END LIMIT 1),
      (SELECT split_part(key, ' ', 1)::lethe.action FROM jsonb_object_keys(changed) AS key LIMIT 1)) END
    """
}
