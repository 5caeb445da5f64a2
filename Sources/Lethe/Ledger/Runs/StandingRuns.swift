public import Definitions
import Foundation
import PostgreSQL

/// Runs that have not ended, whosever they are.
extension RunLedger {
  public struct StandingRun: Sendable {
    public let runID: Int64
    public let pipeline: String
    /// To the second, in UTC.
    public let startedAt: String
    /// `running, 3 chunks: 2 applied, 1 collected`.
    public let standing: String
    /// As it was named when the run was last worked on.
    public let definitionFile: String?
    /// Nil if this version cannot read it.
    public let definition: Definition?
  }

  /// Oldest first.
  /// - Parameter pipeline: leaves this one's out.
  public func standingRuns(besides pipeline: String?) async throws -> [StandingRun] {
    try await connection.query(
      """
      SELECT r.run_id, r.pipeline,
             to_char(r.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
             r.status || ', ' || coalesce(
               (SELECT sum(s.chunks) || ' chunks: ' || pg_catalog.string_agg(s.chunks || ' ' || s.state, ', ' ORDER BY s.state)
                FROM (SELECT c.state, count(*) AS chunks FROM lethe.chunk AS c
                      WHERE c.run_id = r.run_id GROUP BY c.state) AS s), 'no chunk yet'),
             r.definition_file, r.definition::text
      FROM lethe.run AS r
      WHERE r.finished_at IS NULL AND r.pipeline IS DISTINCT FROM $1
      ORDER BY r.run_id
      """, Parameter(pipeline)
    ).rows(
      as: Int64.self, String.self, String.self, String.self, String?.self, String.self
    ).map {
      StandingRun(
        runID: $0.0, pipeline: $0.1, startedAt: $0.2, standing: $0.3, definitionFile: $0.4,
        definition: try? JSONDecoder().decode(Definition.self, from: Data($0.5.utf8)))
    }
  }

  /// Whether the ledger has a run of the pipeline, ended or not.
  public func hasRuns(pipeline: String) async throws -> Bool {
    try await connection.query(
      "SELECT EXISTS (SELECT FROM lethe.run WHERE pipeline = $1)", .text(pipeline)
    ).onlyRow(as: Bool.self)
  }
}
