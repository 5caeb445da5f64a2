public import Definitions
import Foundation
import PostgreSQL

/// The unfinished runs of all pipelines.
extension RunLedger {
  public struct UnfinishedRun: Sendable {
    public let runID: Int64
    public let pipeline: String
    /// To the second, in UTC.
    public let startedAt: String
    /// `running, 3 chunks: 1 collected, 2 applied`.
    public let progress: String
    /// The path of the definition's file, as it was given in the last command that worked on the run.
    public let definitionFile: String?
    /// Nil if this version of Lethe cannot read the run's copy.
    public let definition: Definition?
  }

  /// Returns the unfinished runs, the oldest first.
  /// - Parameter pipeline: leaves out the runs of this pipeline.
  public func unfinishedRuns(excluding pipeline: String?) async throws -> [UnfinishedRun] {
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

  /// Those of the runs with these keys that have ended.
  public func ended(among keys: [String], pipeline: String) async throws -> [String] {
    try await connection.query(
      """
      SELECT key FROM lethe.run
      WHERE pipeline = \(pipeline) AND finished_at IS NOT NULL AND key = ANY (\(keys)::text[])
      """
    ).rows(as: String.self)
  }

  /// Whether the ledger has a run of the pipeline, ended or not.
  public func hasRuns(pipeline: String) async throws -> Bool {
    try await connection.query(
      "SELECT EXISTS (SELECT FROM lethe.run WHERE pipeline = \(pipeline))"
    ).onlyRow(as: Bool.self)
  }
}
