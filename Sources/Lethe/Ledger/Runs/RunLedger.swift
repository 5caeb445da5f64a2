import CrashPoints
public import Definitions
import Foundation
public import PostgreSQL
import Vocabulary

/// Starts, finds, takes over and ends runs.
public struct RunLedger: Sendable {
  /// The failure text of a run that an operator has given up. It is for people. The program reads
  /// `is_given_up`.
  static let givenUpFailure = "given up by the operator"
  /// The comment that the ledger requires in statements that begin a run or change its lease. Older programs do not
  /// send it, and so cannot work on a run. A program without holds would restore rows that other IDs hold. A
  /// program without traces would apply answers that newer answers have superseded.
  static let takeoverMarker: SQL = "/* keeps holds and traces */"

  let connection: Connection

  public init(connection: Connection) {
    self.connection = connection
  }

  /// Keeps programs of versions without leases from working on the pipeline, as long as the session lasts. Such
  /// programs take the same advisory lock in exclusive mode.
  /// - Returns: false if such a program works on the pipeline.
  public func lockOutEarlierVersions(pipeline: String) async throws -> Bool {
    try await connection.query(
      "SELECT pg_try_advisory_lock_shared(hashtext('lethe.pipeline'), hashtext(\(pipeline)))"
    ).onlyRow(as: Bool.self)
  }

  /// Starts a run with a copy of its definition.
  /// - Parameters:
  ///   - parent: the folder in which the run gets its own folder for chunk files.
  ///   - team: the token of the process's team. Nil for a process without a team.
  ///   - file: the path of the definition's file, as the operator gave it.
  /// - Returns: nil if the team has started a run before.
  public func begin(
    _ definition: Definition, in parent: String, lease: Lease, team: String?, file: String? = nil
  ) async throws -> Run? {
    let json = try Self.json(definition)
    let key = String(UUID().uuidString.lowercased().filter(\.isHexDigit).prefix(12))
    let workDirectory = Self.folder(of: definition.name, key, in: parent)
    try await connection.execute(recording: .chainBegun, "SELECT lethe.begin_chain()")
    CrashStep.runBegun.reached(.before)
    let id = try await connection.query(
      """
      INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease, definition_file, team)
      VALUES (\(key), \(definition.name), \(json), \(workDirectory), \(lease.token), \(file), \(team)::uuid)
      ON CONFLICT (team) DO NOTHING RETURNING run_id \(Self.takeoverMarker)
      """
    ).firstRow(as: Int64.self)
    CrashStep.runBegun.reached(.after)
    guard let id else { return nil }
    return Run(id: id, key: key, definition: definition, workDirectory: workDirectory)
  }

  /// A run's own folder for its chunk files.
  public static func folder(of pipeline: String, _ key: String, in parent: String) -> String {
    "\(parent)/\(pipeline)-\(key)"
  }

  /// A new run, for a process that has no team. The parameters are those of the other `begin`.
  public func begin(
    _ definition: Definition, in parent: String, lease: Lease, file: String? = nil
  ) async throws -> Run {
    guard
      let run = try await begin(definition, in: parent, lease: lease, team: nil, file: file)
    else { throw LedgerError.leaseLost("the new run") }
    return run
  }

  /// Gives the run and its unfinished chunks the lease of this process, except chunks of other processes of the team.
  /// Such a chunk gets the lease when this process leases the chunk.
  /// - Parameter file: the path of the definition's file, as the operator gave it in this command.
  public func takeOver(_ runID: Int64, lease: Lease, file: String? = nil) async throws {
    try await connection.withTransaction(recording: .runTakenOver) { transaction in
      try await transaction.executeOne(
        """
        UPDATE lethe.run
        SET lease = \(lease.token), status = \(run: .running), definition_file = coalesce(\(file), definition_file)
        WHERE run_id = \(runID) AND finished_at IS NULL \(Self.takeoverMarker)
        """)
      try await transaction.execute(
        """
        UPDATE lethe.chunk AS taken SET lease = \(lease.token)
        FROM (SELECT c.chunk_id FROM lethe.chunk AS c
              WHERE c.run_id = \(runID) AND c.state NOT IN (\(states: ChunkState.ended))
                AND NOT EXISTS (SELECT FROM lethe.worker AS w
                                WHERE w.lease = c.lease AND w.lease <> \(lease.token)::uuid
                                -- As an anti-join, it would not be checked again after a wait for a row.
                                OFFSET 0)
              -- Other transactions lock chunks in this order, too.
              ORDER BY c.chunk_id FOR NO KEY UPDATE OF c) AS free
        WHERE taken.chunk_id = free.chunk_id
        """)
    }
  }

  /// Whether no work of the run is left: the export of every dataset has ended or the run was given up, and every chunk
  /// is applied or failed.
  public func isSettled(_ run: Run, datasets: Int) async throws -> Bool {
    let isExported = try await connection.query(
      """
      SELECT count(*) = \(datasets) FROM lethe.export WHERE run_id = \(run.id) AND finished_at IS NOT NULL
      """
    ).onlyRow(as: Bool.self)
    let isComplete = if isExported { true } else { try await isGivenUp(run.id) }
    guard isComplete else { return false }
    return try await connection.query(
      """
      SELECT NOT EXISTS (SELECT FROM lethe.chunk
                         WHERE run_id = \(run.id) AND state NOT IN (\(states: ChunkState.ended)))
      """
    ).onlyRow(as: Bool.self)
  }

  /// Whether the run has ended.
  public func hasEnded(_ run: Run) async throws -> Bool {
    try await connection.query(
      "SELECT finished_at IS NOT NULL FROM lethe.run WHERE run_id = \(run.id)"
    ).onlyRow(as: Bool.self)
  }

  /// Whether an operator has given the run up. If one of its chunks is retried, only that chunk is processed.
  public func isGivenUp(_ runID: Int64) async throws -> Bool {
    try await connection.query("SELECT is_given_up FROM lethe.run WHERE run_id = \(runID)")
      .onlyRow(as: Bool.self)
  }

  /// Records that a limit has stopped a chunk of the run. The run waits for an operator.
  public func runStopped(_ run: Run, lease: Lease) async throws {
    try await setStatus(of: run, lease: lease, recording: .runStopped, "status = \(run: .stopped)")
  }

  /// Records that nothing of the run is left to do.
  /// - Parameter failure: what failed permanently. Nil if nothing did.
  public func runFinished(_ run: Run, lease: Lease, failure: String?) async throws {
    if let failure {
      try await setStatus(
        of: run, lease: lease, recording: .runFinished,
        """
        status = \(run: .failed), finished_at = clock_timestamp(),
        failure = CASE WHEN is_given_up THEN failure ELSE \(prose: failure) END
        """)
    } else {
      try await setStatus(
        of: run, lease: lease, recording: .runFinished,
        "status = \(run: .done), finished_at = clock_timestamp()")
    }
  }

  private func setStatus(
    of run: Run, lease: Lease, recording step: CrashStep, _ assignments: SQL
  ) async throws {
    try await ChunkQueries.guarded(
      connection, "run \(run.id)", recording: step,
      """
      UPDATE lethe.run AS r SET \(assignments)
      WHERE run_id = \(run.id) AND finished_at IS NULL AND \(lease.isHeld(.settlement(runID: run.id)))
      """
    )
  }
}
