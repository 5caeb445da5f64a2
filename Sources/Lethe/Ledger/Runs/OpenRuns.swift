import CrashPoints
public import Definitions
import Foundation
import PostgreSQL
import Vocabulary

/// A run whose definition is not decoded yet, because this version might not be able to read it.
public struct OpenRun: Sendable {
  public let id: Int64
  public let key: String
  public let pipeline: String
  /// ISO 8601 in UTC, to the second.
  public let startedAt: String
  public let workDirectory: String
  let definition: String

  /// Decodes the run's copy of the definition.
  /// - Throws: `LedgerError` `.unreadable`, with the run and the part of its definition that cannot be read.
  public func run() throws -> Run {
    do {
      let definition = try JSONDecoder().decode(
        Definition.self, from: Data(definition.utf8))
      return Run(id: id, key: key, definition: definition, workDirectory: workDirectory)
    } catch {
      throw LedgerError(
        code: .unreadable,
        message: """
          run \(id) of \(pipeline), started \(startedAt), has a copy of its definition that this version cannot \
          read: \(Self.description(of: error))
          """,
        remedy: """
          run lethe run PIPELINE --give-up to end the run, and the next run asks about its IDs again; or finish \
          the run with the version of Lethe that started it
          """)
    }
  }

  /// The place in the definition, and what is wrong there. The text quotes names and values of the
  /// definition, but no row.
  private static func description(of error: any Error) -> String {
    func place(_ path: [any CodingKey]) -> String {
      let text = path.reduce(into: "") { text, key in
        if let index = key.intValue { text += "[\(index)]" } else { text += ".\(key.stringValue)" }
      }
      return text.isEmpty ? "the definition" : String(text.drop { $0 == "." })
    }
    switch error as? DecodingError {
    case .keyNotFound(let key, let context):
      return "\(place(context.codingPath)) has no \(key.stringValue)"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      return "\(place(context.codingPath)) has an unexpected type"
    case .dataCorrupted(let context):
      return "\(place(context.codingPath)): \(context.debugDescription)"
    case nil: return "it is not JSON"
    @unknown default: return "it has another format"
    }
  }
}

extension RunLedger {
  /// The runs of a pipeline that have not ended, oldest first.
  public func unfinished(pipeline: String) async throws -> [OpenRun] {
    try await openRuns(where: "pipeline = \(pipeline) AND finished_at IS NULL")
  }

  /// A run, whether or not it has ended.
  public func run(_ id: Int64) async throws -> Run {
    guard let run = try await openRuns(where: "run_id = \(id)").first else {
      throw LedgerError(
        code: .missing, message: "there is no run \(id) in the ledger",
        remedy: "lethe status lists the runs")
    }
    return try run.run()
  }

  /// The newest definition of each pipeline that has started a run in the last 30 days, except `pipelines`.
  /// - Throws: `LedgerError` `.unreadable` if one of the definitions cannot be read. Then it is unknown what
  ///   that pipeline exports.
  public func newestDefinitions(excluding pipelines: [String]) async throws -> [Definition] {
    try await openRuns(
      where: """
        run_id IN (SELECT max(run_id) FROM lethe.run
                   WHERE NOT pipeline = ANY (\(pipelines)::text[])
                     AND started_at > now() - interval '30 days'
                   GROUP BY pipeline)
        """
    ).map { try $0.run().definition }
  }

  private func openRuns(
    where condition: SQL
  ) async throws -> [OpenRun] {
    try await connection.run(
      """
      SELECT run_id, key, pipeline, \(SQL.utc("started_at")) AS started_at,
             work_directory, definition::text
      FROM lethe.run WHERE \(condition) ORDER BY run_id
      """
    ).rows.map { row in
      try OpenRun(
        id: row["run_id"], key: row["key"], pipeline: row["pipeline"], startedAt: row["started_at"],
        workDirectory: row["work_directory"], definition: row["definition"])
    }
  }

  /// Whether the run can continue without an export. This is so in two cases. Every dataset is exported and
  /// all unfinished chunks wait for an operator. Or the run was given up and one of its chunks was retried.
  public func waitsOnlyForOperator(_ run: OpenRun) async throws -> Bool {
    try await connection.query(
      """
      SELECT r.is_given_up
          OR NOT EXISTS (
               SELECT FROM pg_catalog.jsonb_array_elements(CASE jsonb_typeof(r.definition -> 'datasets')
                                                WHEN 'array' THEN r.definition -> 'datasets' ELSE '[]' END) AS d
               WHERE NOT EXISTS (SELECT FROM lethe.export AS e
                                 WHERE e.run_id = \(run.id) AND e.dataset = d ->> 'name'
                                   AND e.finished_at IS NOT NULL))
             AND NOT EXISTS (SELECT FROM lethe.chunk
                             WHERE run_id = \(run.id) AND state NOT IN (\(states: ChunkState.ended))
                               AND stopped_reason IS NULL)
      FROM lethe.run AS r WHERE run_id = \(run.id)
      """
    ).onlyRow(as: Bool.self)
  }

  /// Records the new place of the run's folder and of its chunks' files.
  public func runMoved(_ run: Run, to folder: String, lease: Lease) async throws {
    try await connection.withTransaction(recording: .runMoved) { transaction in
      try await ChunkQueries.guarded(
        transaction, "run \(run.id)",
        """
        UPDATE lethe.run SET work_directory = \(folder) WHERE run_id = \(run.id) AND lease = \(lease.token)
        """
      )
      try await transaction.execute(
        """
        UPDATE lethe.chunk SET path = \(folder)::text || '/' || regexp_replace(path, '^.*/', '')
        WHERE run_id = \(run.id) AND state NOT IN (\(states: ChunkState.ended))
        """)
    }
  }
}
