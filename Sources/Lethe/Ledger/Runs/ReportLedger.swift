import Foundation
import PostgreSQL
public import Vocabulary

/// What reports are made of.
extension RunLedger {
  public struct DatasetTotals: Sendable {
    public let dataset: String
    public let ids: Int
    public let chunks: Int
    public let jobs: Int
    public let events: Int
    public let quarantined: Int
    /// Rows that are not exported, by cause; nil where nobody has counted.
    public let leftOut: LeftOutRows?
  }

  public func datasetTotals(of run: Run) async throws -> [DatasetTotals] {
    try await connection.query(
      """
      SELECT e.dataset, e.ids, e.chunks, coalesce(sum(j.jobs), 0)::bigint,
             coalesce(sum(c.events), 0)::bigint, coalesce(sum(q.lines), 0)::bigint,
             e.left_out::text, coalesce(e.rows_of_dataset, 0)
      FROM lethe.export AS e
      LEFT JOIN lethe.chunk AS c ON c.run_id = e.run_id AND c.dataset = e.dataset
      LEFT JOIN LATERAL (
        SELECT count(*) AS jobs FROM lethe.job WHERE chunk_id = c.chunk_id
      ) AS j ON true
      LEFT JOIN LATERAL (
        SELECT count(*) AS lines FROM lethe.quarantine
        WHERE chunk_id = c.chunk_id AND resolved_at IS NULL
      ) AS q ON true
      WHERE e.run_id = $1
      GROUP BY e.run_id, e.dataset
      """, .integer(run.id)
    ).rows(
      as: String.self, Int.self, Int.self, Int.self, Int.self, Int.self, String?.self, Int.self
    ).map {
      DatasetTotals(
        dataset: $0.0, ids: $0.1, chunks: $0.2, jobs: $0.3, events: $0.4, quarantined: $0.5,
        leftOut: Self.leftOut($0.6, of: $0.7))
    }
  }

  /// - Parameter causes: as the ledger keeps them, JSON.
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
      WHERE c.run_id = $1 GROUP BY 1, 2, 3
      """, .integer(run.id)
    ).rows(as: String.self, String.self, String.self, Int.self)
      .map { RowTotal(dataset: $0.0, table: $0.1, action: $0.2, rows: $0.3) }
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

  /// A line of `lethe status`.
  public struct RunStatus: Sendable {
    public let runID: Int64
    public let pipeline: String
    public let status: String
    /// Whether a process works on its pipeline now.
    public let isWorkedOn: Bool
    public let startedAt: String
    public let finishedAt: String?
    public let ids: Int
    /// How many chunks are in each state, such as `applied 3, uploaded 1`.
    public let chunks: String
    /// Rows of its datasets that were not exported, by dataset.
    public let leftOut: [(dataset: String, rows: LeftOutRows)]
    /// Its datasets of which a limit let nothing be exported, and why.
    public let stoppedDatasets: [String: String]
  }

  /// The newest runs, newest first.
  /// - Parameter pipeline: of this pipeline only.
  public func recent(pipeline: String?, limit: Int) async throws -> [RunStatus] {
    try await connection.query(
      """
      SELECT r.run_id, r.pipeline, r.status::text,
             to_char(r.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
             to_char(r.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
             (SELECT coalesce(sum(ids), 0)::bigint FROM lethe.export WHERE run_id = r.run_id),
             (SELECT coalesce(pg_catalog.string_agg(state || ' ' || n, ', ' ORDER BY state), 'none')
              FROM (SELECT state, count(*) AS n FROM lethe.chunk
                    WHERE run_id = r.run_id GROUP BY state) AS states),
             (SELECT pg_catalog.jsonb_object_agg(dataset, pg_catalog.jsonb_build_array(left_out::text, rows_of_dataset::text))::text
              FROM lethe.export WHERE run_id = r.run_id AND left_out <> '{}'),
             (SELECT pg_catalog.jsonb_object_agg(dataset, failure)::text
              FROM lethe.export WHERE run_id = r.run_id AND is_stopped),
             EXISTS (SELECT FROM pg_locks AS l
                     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                       AND l.classid = (hashtext('lethe.pipeline')::bigint & 4294967295)::oid
                       AND l.objid = (hashtext(r.pipeline)::bigint & 4294967295)::oid)
      FROM lethe.run AS r
      WHERE $1::text IS NULL OR pipeline = $1
      ORDER BY r.run_id DESC LIMIT $2
      """, Parameter(pipeline), .integer(Int64(limit))
    ).rows(
      as: Int64.self, String.self, String.self, String.self, String?.self, Int.self, String.self,
      String?.self, String?.self, Bool.self
    ).map {
      RunStatus(
        runID: $0.0, pipeline: $0.1, status: $0.2, isWorkedOn: $0.9, startedAt: $0.3,
        finishedAt: $0.4, ids: $0.5,
        chunks: $0.6, leftOut: Self.leftOut(byDataset: $0.7),
        stoppedDatasets: $0.8.flatMap {
          try? JSONDecoder().decode([String: String].self, from: Data($0.utf8))
        } ?? [:])
    }
  }
}
