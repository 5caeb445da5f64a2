public import Definitions
import Foundation
import PostgreSQL

/// The runs of all pipelines that have not ended.
extension RunLedger {
  public struct UnfinishedRun: Sendable {
    public let runID: Int64
    public let pipeline: String
    /// To the second, in UTC.
    public let startedAt: String
    /// `running, 3 chunks: 2 applied, 1 collected`.
    public let progress: String
    /// As it was named when the run was last worked on.
    public let definitionFile: String?
    /// Nil if this version of Lethe cannot read it.
    public let definition: Definition?
  }

  /// Returns the unfinished runs, the oldest first.
  /// - Parameter pipeline: leaves out the runs of this pipeline.
  public func unfinishedRuns(besides pipeline: String?) async throws -> [UnfinishedRun] {
    try await connection.query(
      """
      SELECT r.run_id, r.pipeline,
             \(SQL.utc("r.started_at")) AS started_at,
             r.status || ', ' || coalesce(
               (SELECT sum(s.chunks) || ' chunks: ' || pg_catalog.string_agg(s.chunks || ' ' || s.state, ', ' ORDER BY s.state)
                FROM (SELECT c.state, count(*) AS chunks FROM lethe.chunk AS c
                      WHERE c.run_id = r.run_id GROUP BY c.state) AS s), 'no chunk yet') AS progress,
             r.definition_file, r.definition::text
      FROM lethe.run AS r
      WHERE r.finished_at IS NULL AND r.pipeline IS DISTINCT FROM \(pipeline)
      ORDER BY r.run_id
      """
    ).rows.map { row in
      try UnfinishedRun(
        runID: row["run_id"], pipeline: row["pipeline"], startedAt: row["started_at"],
        progress: row["progress"], definitionFile: row["definition_file"],
        definition: try? JSONDecoder().decode(
          Definition.self, from: Data(row.decode(String.self, "definition").utf8)))
    }
  }

  /// Whether the ledger has a run of the pipeline, ended or not.
  public func hasRuns(pipeline: String) async throws -> Bool {
    try await connection.query(
      "SELECT EXISTS (SELECT FROM lethe.run WHERE pipeline = \(pipeline))"
    ).onlyRow(as: Bool.self)
  }
}
