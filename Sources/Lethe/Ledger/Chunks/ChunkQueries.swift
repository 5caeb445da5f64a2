import CrashPoints
public import PostgreSQL
public import Vocabulary

/// Queries that the ledger types of all stages share: they read chunks, and change rows only with the right lease.
struct ChunkQueries {
  static let columns: SQL = """
    c.chunk_id, c.run_id, r.key, r.pipeline, c.dataset, c.type::text, c.number, c.first_id,
    c.last_id, c.ids, c.bytes, c.sha256, c.path, c.file_host, c.state::text, c.applied_through,
    c.approved_at IS NOT NULL AS is_approved
    """

  static func chunks(from result: QueryResult) throws -> [Chunk] {
    try result.rows.map { row in
      try Chunk(
        id: row["chunk_id"], runID: row["run_id"], runKey: row["key"], pipeline: row["pipeline"],
        dataset: row["dataset"], type: row["type"], number: row["number"],
        firstID: row["first_id"], lastID: row["last_id"], ids: row["ids"], bytes: row["bytes"],
        sha256: row["sha256"], path: row["path"], fileHost: row["file_host"], state: row["state"],
        appliedThrough: row["applied_through"], isApproved: row["is_approved"])
    }
  }

  /// Runs a statement that must change or return exactly one row.
  /// - Throws: `LedgerError` (`.leaseLost`) if it does not.
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

  /// The chunks of a run that are in one of `states`, ordered by chunk ID.
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

  /// Records the last status of a job at the API. Only operators read it.
  public func statusSeen(_ status: JobStatus, of attempt: Attempt) async throws {
    try await connection.execute(
      recording: .statusSeen,
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

  /// Records that the job ended without a result. The chunk goes back to `exported` for another attempt. After the last
  /// attempt, the chunk fails.
  ///
  /// - Parameter isCounted: if false, this attempt and all earlier ones do not count towards `attemptsMax`.
  /// - Returns: whether there is another attempt.
  public func jobFailed(
    _ attempt: Attempt, of chunk: Chunk, why: String, attemptsMax: Int, isCounted: Bool = true
  ) async throws -> Bool {
    try await connection.withTransaction(recording: .jobFailed) { transaction in
      let before = try await transaction.query(
        "SELECT attempts_before FROM lethe.chunk WHERE chunk_id = \(chunk.id)"
      ).onlyRow(as: Int.self)
      let hasAnother = !isCounted || attempt.number - before < attemptsMax
      try await end(attempt, why: why, on: transaction)
      if hasAnother {
        try await ChunkQueries.guarded(
          transaction, chunk.label,
          // The chunk is still `exported` if the job was never created.
          ChunkTransition.jobFailed.update(
            of: chunk, orIn: [.exported], heldBy: lease,
            setting: isCounted ? "" : "attempts_before = \(attempt.number)"))
      } else {
        try await fail(
          chunk, why: "\(attempt.number - before) jobs failed, the last one: \(why)",
          isRetryable: true, on: transaction)
      }
      return hasAnother
    }
  }

  /// Changes the chunk's state to `failed`.
  /// - Parameter isRetryable: whether a new chunk of the same IDs can succeed.
  public func chunkFailed(_ chunk: Chunk, why: String, isRetryable: Bool) async throws {
    try await CrashStep.chunkFailed.around {
      try await fail(chunk, why: why, isRetryable: isRetryable, on: connection)
    }
  }

  func fail(
    _ chunk: Chunk, why: String, isRetryable: Bool, on session: some Session
  ) async throws {
    try await make(
      .failed, of: chunk, setting: "failure = \(prose: why), is_retryable = \(isRetryable)",
      on: session)
  }
}

extension ChunkLedger {
  /// Records that this process works on a chunk that it has leased.
  /// - Returns: the chunk in its current state.
  public func take(_ chunkID: Int64) async throws -> Chunk {
    let rows = try await CrashStep.chunkTaken.around {
      try await connection.query(
        """
        WITH c AS (UPDATE lethe.chunk SET lease = \(lease.token) WHERE chunk_id = \(chunkID) RETURNING *)
        SELECT \(ChunkQueries.columns) FROM c JOIN lethe.run AS r USING (run_id)
        """)
    }
    guard let chunk = try ChunkQueries.chunks(from: rows).first else {
      throw LedgerError.leaseLost("chunk \(chunkID)")
    }
    return chunk
  }
}
