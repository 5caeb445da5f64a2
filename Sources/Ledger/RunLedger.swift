public import Definitions
import Foundation
public import PostgreSQL

/// Beginning, finding, taking over and ending runs.
public struct RunLedger: Sendable {
  /// The failure of a run that somebody has given up.
  static let givenUpFailure = "given up by the operator"
  /// What the ledger wants to see in the statements that take a run: a program of before there were holds
  /// would open rows that others hold, and one of before there were traces act on what newer answers say.
  static let knowsHolds = "/* keeps holds and traces */"

  let connection: Connection

  public init(connection: Connection) {
    self.connection = connection
  }

  /// Takes the pipeline's lock for as long as the connection lives. One process at a time works on
  /// a pipeline.
  /// - Returns: false if another process holds it.
  public func lock(pipeline: String) async throws -> Bool {
    try await connection.query(
      "SELECT pg_try_advisory_lock(hashtext('lethe.pipeline'), hashtext($1))", .text(pipeline)
    ).onlyRow(as: Bool.self)
  }

  /// Gives the lock back. The server does so as well when the connection ends, but in its own time: the
  /// next command in a script may come sooner.
  public func unlock(pipeline: String) async throws {
    try await connection.execute(
      "SELECT pg_advisory_unlock(hashtext('lethe.pipeline'), hashtext($1))", .text(pipeline))
  }

  /// Begins a run with a copy of its definition.
  /// - Parameters:
  ///   - parent: where the run's own folder for its chunk files goes.
  ///   - file: the definition's, as it was named.
  public func begin(
    _ definition: Definition, in parent: String, lease: Lease, file: String? = nil
  ) async throws -> Run {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let json = String(decoding: try encoder.encode(definition), as: UTF8.self)
    let key = String(UUID().uuidString.lowercased().filter(\.isHexDigit).prefix(12))
    let workDirectory = "\(parent)/\(definition.name)-\(key)"
    try await connection.execute("SELECT lethe.begin_chain()")
    let id = try await connection.query(
      """
      INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease, definition_file)
      VALUES ($1, $2, $3, $4, $5, $6) RETURNING run_id \(Self.knowsHolds)
      """, .text(key), .text(definition.name), .text(json), .text(workDirectory),
      .text(lease.token), Parameter(file)
    ).onlyRow(as: Int64.self)
    return Run(id: id, key: key, definition: definition, workDirectory: workDirectory)
  }

  /// The runs of a pipeline that have not ended, oldest first.
  public func unfinished(pipeline: String) async throws -> [Run] {
    try await runs(where: "pipeline = $1 AND finished_at IS NULL", .text(pipeline))
  }

  /// A run, whether or not it has ended.
  public func run(_ id: Int64) async throws -> Run {
    guard let run = try await runs(where: "run_id = $1", .integer(id)).first else {
      throw LedgerError(
        code: .missing, message: "there is no run \(id) in the ledger",
        remedy: "lethe status lists the runs")
    }
    return run
  }

  /// The definitions of the newest runs of pipelines that have had one of late, as far as this version reads
  /// them.
  public func newestDefinitions(besides pipelines: [String]) async throws -> [Definition] {
    try await connection.query(
      """
      SELECT DISTINCT ON (pipeline) definition::text FROM lethe.run
      WHERE NOT pipeline = ANY ($1::text[]) AND started_at > now() - interval '30 days'
      ORDER BY pipeline, run_id DESC
      """, .texts(pipelines)
    ).rows(as: String.self)
      .compactMap { try? JSONDecoder().decode(Definition.self, from: Data($0.utf8)) }
  }

  private func runs(where condition: String, _ parameters: Parameter...) async throws -> [Run] {
    try await connection.run(
      """
      SELECT run_id, key, definition::text, work_directory FROM lethe.run
      WHERE \(condition) ORDER BY run_id
      """, parameters
    ).rows(as: Int64.self, String.self, String.self, String.self).map { id, key, json, directory in
      guard
        let definition = try? JSONDecoder().decode(Definition.self, from: Data(json.utf8))
      else {
        throw LedgerError(
          code: .unreadable, message: "the definition of run \(id) cannot be read",
          remedy: "finish it with the version of Lethe that began it")
      }
      return Run(id: id, key: key, definition: definition, workDirectory: directory)
    }
  }

  /// Makes this process the one that works on the run.
  /// - Parameter file: the definition's, as it was named this time.
  public func takeOver(_ run: Run, lease: Lease, file: String? = nil) async throws {
    try await connection.withTransaction { transaction in
      try await transaction.executeOne(
        """
        UPDATE lethe.run
        SET lease = $2, status = 'running', definition_file = coalesce($3, definition_file)
        WHERE run_id = $1 AND finished_at IS NULL \(Self.knowsHolds)
        """, .integer(run.id), .text(lease.token), Parameter(file))
      try await transaction.execute(
        """
        UPDATE lethe.chunk SET lease = $2
        WHERE run_id = $1 AND state NOT IN ('applied', 'failed')
        """, .integer(run.id), .text(lease.token))
    }
  }

  /// Whether every dataset is exported and every chunk applied or given up.
  public func isSettled(_ run: Run, datasets: Int) async throws -> Bool {
    let isExported = try await connection.query(
      "SELECT count(*) = $2 FROM lethe.export WHERE run_id = $1 AND finished_at IS NOT NULL",
      .integer(run.id), .integer(Int64(datasets))
    ).onlyRow(as: Bool.self)
    let isComplete = if isExported { true } else { try await isGivenUp(run) }
    guard isComplete else { return false }
    return try await connection.query(
      """
      SELECT NOT EXISTS (SELECT FROM lethe.chunk
                         WHERE run_id = $1 AND state NOT IN ('applied', 'failed'))
      """, .integer(run.id)
    ).onlyRow(as: Bool.self)
  }

  /// Whether somebody had given the run up. A chunk of it may have been taken on again; nothing else of it
  /// is done.
  public func isGivenUp(_ run: Run) async throws -> Bool {
    try await connection.query(
      "SELECT coalesce(failure = $2, false) FROM lethe.run WHERE run_id = $1", .integer(run.id),
      .text(Self.givenUpFailure)
    ).onlyRow(as: Bool.self)
  }

  /// Somebody has decided against finishing the run: what is not applied of it fails, and its IDs are
  /// checked again by the next run. What its results said is still known until newer ones answer for the
  /// same IDs: an older answer must not come back to life.
  public func runGivenUp(_ run: Run, lease: Lease) async throws {
    let why = Self.givenUpFailure
    try await connection.withTransaction { transaction in
      try await transaction.execute(
        """
        UPDATE lethe.job AS j SET ended_at = clock_timestamp(), failure = $2
        FROM lethe.chunk AS c WHERE c.chunk_id = j.chunk_id AND c.run_id = $1 AND j.ended_at IS NULL
        """, .integer(run.id), .text(why))
      try await transaction.execute(
        """
        UPDATE lethe.chunk
        SET state = 'failed', failed_at = clock_timestamp(), failure = $2, is_retryable = true,
            stopped_reason = NULL
        WHERE run_id = $1 AND state NOT IN ('applied', 'failed')
        """, .integer(run.id), .text(why))
      // What was applied of a chunk stays, and so its record is sealed like any other.
      try await transaction.execute(
        """
        SELECT lethe.seal('job', j.job_id, c.chunk_id, lethe.job_content(j.job_id))
        FROM lethe.chunk AS c JOIN lethe.job AS j USING (chunk_id)
        WHERE c.run_id = $1 AND j.result_sha256 IS NOT NULL
          AND (SELECT count(*) FROM lethe.batch AS b WHERE b.chunk_id = c.chunk_id)
            > coalesce((SELECT (s.content::jsonb ->> 'batches')::bigint FROM lethe.seal AS s
                        WHERE s.chunk_id = c.chunk_id ORDER BY s.number DESC LIMIT 1), 0)
        """, .integer(run.id))
      try await ChunkQueries.guarded(
        transaction, "run \(run.id)",
        """
        UPDATE lethe.run SET status = 'failed', finished_at = clock_timestamp(), failure = $3
        WHERE run_id = $1 AND lease = $2 AND finished_at IS NULL
        """, [.integer(run.id), .text(lease.token), .text(why)])
    }
  }

  /// The API's jobs of a run that are not known to have ended.
  public func liveJobs(of run: Run) async throws -> [String] {
    try await connection.query(
      """
      SELECT api_id FROM lethe.job JOIN lethe.chunk USING (chunk_id)
      WHERE run_id = $1 AND ended_at IS NULL AND api_id IS NOT NULL
      """, .integer(run.id)
    ).rows(as: String.self)
  }

  /// A limit has stopped a chunk of the run: it waits for somebody's word.
  public func runStopped(_ run: Run, lease: Lease) async throws {
    try await setStatus(of: run, lease: lease, "status = 'stopped'")
  }

  /// Nothing of the run is left to do.
  /// - Parameter failure: what failed for good, if something did.
  public func runFinished(_ run: Run, lease: Lease, failure: String?) async throws {
    if let failure {
      try await setStatus(
        of: run, lease: lease,
        """
        status = 'failed', finished_at = clock_timestamp(),
        failure = CASE WHEN failure = $4 THEN failure ELSE $3 END
        """, .text(failure), .text(Self.givenUpFailure))
    } else {
      try await setStatus(
        of: run, lease: lease, "status = 'done', finished_at = clock_timestamp()")
    }
  }

  private func setStatus(
    of run: Run, lease: Lease, _ assignments: String, _ parameters: Parameter...
  ) async throws {
    try await ChunkQueries.guarded(
      connection, "run \(run.id)",
      "UPDATE lethe.run SET \(assignments) WHERE run_id = $1 AND lease = $2 AND finished_at IS NULL",
      [.integer(run.id), .text(lease.token)] + parameters)
  }
}
