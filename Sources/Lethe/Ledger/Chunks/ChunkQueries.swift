public import PostgreSQL
public import Vocabulary

/// Reads chunks and makes guarded changes to them, for the ledger types of all stages.
struct ChunkQueries {
  static let columns: SQL = """
    c.chunk_id, c.run_id, r.key, r.pipeline, c.dataset, c.type::text, c.number, c.first_id,
    c.last_id, c.ids, c.bytes, c.sha256, c.path, c.state::text, c.applied_through,
    c.approved_at IS NOT NULL AS is_approved
    """

  static func chunks(from result: QueryResult) throws -> [Chunk] {
    try result.rows.map { row in
      try Chunk(
        id: row["chunk_id"], runID: row["run_id"], runKey: row["key"], pipeline: row["pipeline"],
        dataset: row["dataset"], type: row["type"], number: row["number"],
        firstID: row["first_id"], lastID: row["last_id"], ids: row["ids"], bytes: row["bytes"],
        sha256: row["sha256"], path: row["path"], state: row["state"],
        appliedThrough: row["applied_through"], isApproved: row["is_approved"])
    }
  }

  /// Runs an update that must change exactly one row.
  /// - Throws: `LedgerError` (`.leaseLost`) if it changes no row.
  static func guarded(
    _ session: some Session, _ what: String, _ sql: SQL
  ) async throws {
    guard try await session.run(sql).rowsAffected == 1 else {
      throw LedgerError.leaseLost(what)
    }
  }
}

extension JobType: ColumnDecodable {
  public static func decode(columnText text: String?) -> JobType? {
    text.flatMap(JobType.init(rawValue:))
  }
}

extension ChunkState: ColumnDecodable {
  public static func decode(columnText text: String?) -> ChunkState? {
    text.flatMap(ChunkState.init(rawValue:))
  }
}

/// The records of the stages about chunks and their jobs. Each stage has an extension.
public struct ChunkLedger: Sendable {
  let connection: Connection
  public let lease: Lease

  public init(connection: Connection, lease: Lease) {
    self.connection = connection
    self.lease = lease
  }

  /// The chunk in its current state.
  public func chunk(_ id: Int64) async throws -> Chunk {
    let result = try await connection.query(
      """
      SELECT \(ChunkQueries.columns)
      FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id) WHERE c.chunk_id = \(id)
      """)
    guard let chunk = try ChunkQueries.chunks(from: result).first else {
      throw LedgerError(
        code: .missing, message: "there is no chunk \(id) in the ledger",
        remedy: "run lethe status to see the chunks")
    }
    return chunk
  }

  /// The chunks of a run that are in one of `states`, ordered by dataset and key range.
  public func chunks(of runID: Int64, in states: [ChunkState]) async throws -> [Chunk] {
    try ChunkQueries.chunks(
      from: await connection.query(
        """
        SELECT \(ChunkQueries.columns)
        FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
        WHERE c.run_id = \(runID) AND c.state = ANY (\(states.map(\.rawValue))::lethe.chunk_state[])
        ORDER BY c.chunk_id
        """))
  }

  /// The current attempt at the chunk. Nil if there is none.
  public func liveAttempt(at chunk: Chunk) async throws -> Attempt? {
    try await connection.query(
      """
      SELECT job_id, attempt, name, api_id FROM lethe.job WHERE chunk_id = \(chunk.id) AND ended_at IS NULL
      """
    ).firstRow(as: Int64.self, Int.self, String.self, String?.self)
      .map { Attempt(jobID: $0.0, number: $0.1, name: $0.2, apiID: $0.3) }
  }

  /// Records the last status of a job at the API. It is only information.
  public func statusSeen(_ status: JobStatus, of attempt: Attempt) async throws {
    try await connection.execute(
      """
      UPDATE lethe.job SET status = \(prose: status.description)
      WHERE job_id = \(attempt.jobID)
      """)
  }

  /// Ends an attempt that has no result.
  func end(_ attempt: Attempt, why: String, on transaction: Transaction) async throws {
    try await transaction.executeOne(Self.ending("j.job_id = \(attempt.jobID)", why: why))
  }

  /// SQL: an update that ends live attempts without a result.
  /// - Parameter which: a condition on `lethe.job AS j`.
  static func ending(_ which: SQL, why: String) -> SQL {
    """
    UPDATE lethe.job AS j SET ended_at = clock_timestamp(), failure = \(prose: why)
    WHERE \(which) AND j.ended_at IS NULL
    """
  }

  /// Records that the job ended without a result. The chunk goes back to `exported` for another attempt.
  /// After the last attempt it fails.
  ///
  /// - Returns: whether there is another attempt.
  public func jobFailed(
    _ attempt: Attempt, of chunk: Chunk, why: String, attemptsMax: Int
  ) async throws -> Bool {
    try await connection.withTransaction { transaction in
      let before = try await transaction.query(
        "SELECT attempts_before FROM lethe.chunk WHERE chunk_id = \(chunk.id)"
      ).onlyRow(as: Int.self)
      let hasAnother = attempt.number - before < attemptsMax
      try await end(attempt, why: why, on: transaction)
      if hasAnother {
        try await ChunkQueries.guarded(
          transaction, chunk.label,
          // The chunk is still `exported` if the job was never created.
          ChunkTransition.jobFailed.update(of: chunk, orIn: [.exported], heldBy: lease))
      } else {
        try await fail(
          chunk, why: "\(attempt.number - before) jobs failed, the last one: \(why)",
          isRetryable: true, on: transaction)
      }
      return hasAnother
    }
  }

  /// Ends the chunk as failed.
  /// - Parameter isRetryable: whether a new chunk of the same IDs may succeed.
  public func chunkFailed(_ chunk: Chunk, why: String, isRetryable: Bool) async throws {
    try await fail(chunk, why: why, isRetryable: isRetryable, on: connection)
  }

  func fail(
    _ chunk: Chunk, why: String, isRetryable: Bool, on session: some Session
  ) async throws {
    try await make(
      .failed, of: chunk, setting: "failure = \(prose: why), is_retryable = \(isRetryable)",
      on: session)
  }
}
