import Foundation
import PostgreSQL
public import Vocabulary

/// The numbers in reports.
extension RunLedger {
  public struct DatasetTotals: Sendable {
    public let dataset: String
    public let ids: Int
    public let chunks: Int
    public let jobs: Int
    public let events: Int
    public let quarantined: Int
    /// Rows that are not exported, by cause. Nil if they were not counted.
    public let leftOut: LeftOutRows?
  }

  public func datasetTotals(of run: Run) async throws -> [DatasetTotals] {
    try await connection.query(
      """
      SELECT e.dataset, e.ids, e.chunks, coalesce(sum(j.jobs), 0)::bigint AS jobs,
             coalesce(sum(c.events), 0)::bigint AS events, coalesce(sum(q.lines), 0)::bigint AS quarantined,
             e.left_out::text, coalesce(e.rows_of_dataset, 0) AS of
      FROM lethe.export AS e
      LEFT JOIN lethe.chunk AS c ON c.run_id = e.run_id AND c.dataset = e.dataset
      LEFT JOIN LATERAL (
        SELECT count(*) AS jobs FROM lethe.job WHERE chunk_id = c.chunk_id
      ) AS j ON true
      LEFT JOIN LATERAL (
        SELECT count(*) AS lines FROM lethe.quarantine
        WHERE chunk_id = c.chunk_id AND resolved_at IS NULL
      ) AS q ON true
      WHERE e.run_id = \(run.id)
      GROUP BY e.run_id, e.dataset
      """
    ).rows.map { row in
      try DatasetTotals(
        dataset: row["dataset"], ids: row["ids"], chunks: row["chunks"], jobs: row["jobs"],
        events: row["events"], quarantined: row["quarantined"],
        leftOut: Self.leftOut(row["left_out"], of: row["of"]))
    }
  }

  /// - Parameter causes: JSON, as the ledger stores it.
  static func leftOut(_ causes: String?, of rows: Int) -> LeftOutRows? {
    guard let causes,
      let counts = try? JSONDecoder().decode([String: Int].self, from: Data(causes.utf8))
    else { return nil }
    return LeftOutRows(
      byCause: Dictionary(
        uniqueKeysWithValues: counts.compactMap { word, rows in
          LeftOutCause(rawValue: word).map { ($0, rows) }
        }), rowsOfDataset: rows)
  }

  public struct RowTotal: Sendable {
    public let dataset: String
    public let table: String
    public let action: String
    public let rows: Int
  }

  public func rowTotals(of run: Run) async throws -> [RowTotal] {
    try await connection.query(
      """
      SELECT c.dataset, h.table_name, h.action::text, sum(h.rows)::bigint
      FROM lethe.change AS h JOIN lethe.chunk AS c USING (chunk_id)
      WHERE c.run_id = \(run.id) GROUP BY 1, 2, 3
      """
    ).rows(as: String.self, String.self, String.self, Int.self)
      .map { RowTotal(dataset: $0.0, table: $0.1, action: $0.2, rows: $0.3) }
  }

  /// How a run has used the API's slot of a job type.
  public struct SlotTotals: Sendable {
    public let type: JobType
    public let jobs: Int
    /// From the response to a job's creation until this run has seen that the job has ended.
    public let busySeconds: Double
    /// From then until the response to the next creation, without the time in which no chunk waited for the slot.
    public let idleSeconds: Double
  }

  public func slotTotals(of run: Run) async throws -> [SlotTotals] {
    try await connection.query(
      """
      WITH job AS (
        SELECT c.type, c.exported_at, j.created_at, coalesce(j.completed_at, j.ended_at) AS freed_at,
               pg_catalog.lag(coalesce(j.completed_at, j.ended_at)) OVER (PARTITION BY c.type ORDER BY j.created_at, j.job_id)
                 AS free_since
        FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id)
        WHERE c.run_id = \(run.id) AND j.created_at IS NOT NULL)
      SELECT type::text AS type, count(*) AS jobs,
             coalesce(sum(greatest(extract(epoch FROM freed_at - created_at), 0)), 0)::float8 AS busy,
             coalesce(sum(greatest(extract(epoch FROM created_at - greatest(free_since, exported_at)), 0))
                        FILTER (WHERE free_since IS NOT NULL), 0)::float8 AS idle
      FROM job GROUP BY type
      """
    ).rows.map { row in
      try SlotTotals(
        type: row["type"], jobs: row["jobs"], busySeconds: row["busy"], idleSeconds: row["idle"])
    }
  }

  private static func leftOut(
    byDataset json: String?
  ) -> [(dataset: String, rows: LeftOutRows)] {
    guard let json,
      let pairs = try? JSONDecoder().decode([String: [String]].self, from: Data(json.utf8))
    else { return [] }
    return pairs.sorted { $0.key < $1.key }.compactMap { dataset, pair in
      leftOut(pair.first, of: pair.last.flatMap { Int($0) } ?? 0).map { (dataset, $0) }
    }
  }

  /// A run as `lethe status` shows it.
  public struct RunStatus: Sendable {
    public let runID: Int64
    public let pipeline: String
    public let status: RunState
    /// Whether a process works on the run's pipeline now.
    public let isWorkedOn: Bool
    public let startedAt: String
    public let finishedAt: String?
    public let ids: Int
    /// How many chunks are in each state, such as `uploaded 1, applied 3`.
    public let chunks: String
    /// Rows of the run's datasets that were not exported, by dataset.
    public let leftOut: [(dataset: String, rows: LeftOutRows)]
    /// The datasets that are not exported because too many rows would be left out, and why.
    public let stoppedDatasets: [String: String]
    /// The datasets whose export failed, and why.
    public let failedDatasets: [String: String]
    /// The path of the definition's file, as it was given in the last command that worked on the run.
    public let definitionFile: String?
  }

  /// The newest runs, newest first.
  /// - Parameter pipeline: runs of this pipeline only. Nil for all.
  public func recent(pipeline: String?, limit: Int) async throws -> [RunStatus] {
    try await connection.query(
      """
      SELECT r.run_id, r.pipeline, r.status::text,
             \(SQL.utc("r.started_at")) AS started_at,
             \(SQL.utc("r.finished_at")) AS finished_at,
             (SELECT coalesce(sum(ids), 0)::bigint FROM lethe.export WHERE run_id = r.run_id) AS ids,
             (SELECT coalesce(pg_catalog.string_agg(state || ' ' || n, ', ' ORDER BY state), 'none')
              FROM (SELECT state, count(*) AS n FROM lethe.chunk
                    WHERE run_id = r.run_id GROUP BY state) AS states) AS chunks,
             (SELECT pg_catalog.jsonb_object_agg(dataset, pg_catalog.jsonb_build_array(left_out::text, rows_of_dataset::text))::text
              FROM lethe.export WHERE run_id = r.run_id AND left_out <> '{}') AS by_dataset,
             (SELECT pg_catalog.jsonb_object_agg(dataset, failure)::text
              FROM lethe.export WHERE run_id = r.run_id AND is_stopped) AS stopped_datasets,
             (SELECT pg_catalog.jsonb_object_agg(dataset, failure)::text
              FROM lethe.export
              WHERE run_id = r.run_id AND failure IS NOT NULL AND NOT is_stopped) AS failed_datasets,
             r.definition_file,
             EXISTS (SELECT FROM lethe.worker AS w
                     WHERE w.pipeline = r.pipeline AND w.expires_at > clock_timestamp())
             -- A program of a version without leases.
             OR EXISTS (SELECT FROM pg_locks AS l
                     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                       AND l.mode = 'ExclusiveLock'
                       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                       AND l.classid = (hashtext('lethe.pipeline')::bigint & 4294967295)::oid
                       AND l.objid = (hashtext(r.pipeline)::bigint & 4294967295)::oid) AS is_worked_on
      FROM lethe.run AS r
      WHERE \(pipeline)::text IS NULL OR pipeline = \(pipeline)::text
      ORDER BY r.run_id DESC LIMIT \(limit)
      """
    ).rows.map { row in
      try RunStatus(
        runID: row["run_id"], pipeline: row["pipeline"], status: row["status"],
        isWorkedOn: row["is_worked_on"], startedAt: row["started_at"],
        finishedAt: row["finished_at"], ids: row["ids"],
        chunks: row["chunks"], leftOut: Self.leftOut(byDataset: row["by_dataset"]),
        stoppedDatasets: Self.reasons(row["stopped_datasets"]),
        failedDatasets: Self.reasons(row["failed_datasets"]), definitionFile: row["definition_file"]
      )
    }
  }

  private static func reasons(_ byDataset: String?) -> [String: String] {
    byDataset.flatMap { try? JSONDecoder().decode([String: String].self, from: Data($0.utf8)) }
      ?? [:]
  }
}
