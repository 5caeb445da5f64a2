public import PostgreSQL
import Vocabulary

/// The quarantine, for operators: lines of results that must not be acted on.
public struct QuarantineLedger: Sendable {
  let connection: Connection

  public init(connection: Connection) {
    self.connection = connection
  }

  public struct Line: Sendable, Equatable {
    public let quarantineID: Int64
    public let pipeline: String
    public let runID: Int64
    public let chunkID: Int64
    /// The API's ID of the job whose result has the line.
    public let job: String?
    /// The line's number in the result, from 1.
    public let number: Int
    /// The line's ID. Nil if the line has no readable ID.
    public let id: Int64?
    /// Whether `id` was in the chunk. Nil if this is unknown.
    public let isInChunk: Bool?
    public let why: String
    /// The beginning of the line, at most `rawBytesMax` bytes.
    public let raw: [UInt8]
    public let rawBytes: Int
    public let quarantinedAt: String
    /// The number of results that contained the line.
    public let seen: Int
    /// The time when the last of these results was collected.
    public let lastSeenAt: String
    public let resolvedAt: String?
    public let resolution: String?
    public let note: String?
  }

  /// The lines in the order in which they were quarantined.
  ///
  /// - Parameters:
  ///   - pipeline: lines of this pipeline only.
  ///   - after: lines after the one with this `quarantineID`.
  ///   - rawBytesMax: how many bytes of each line to read.
  public func lines(
    pipeline: String?, includingResolved: Bool, after: Int64, limit: Int, rawBytesMax: Int
  ) async throws -> [Line] {
    try await connection.query(
      """
      SELECT q.quarantine_id, r.pipeline, c.run_id, q.chunk_id, j.api_id, q.line, q.id, q.in_chunk,
             q.why, substring(q.raw FOR \(rawBytesMax)::integer) AS raw, octet_length(q.raw) AS raw_bytes,
             \(SQL.utc("q.quarantined_at")) AS quarantined_at, q.seen,
               \(SQL.utc("q.last_seen_at")) AS last_seen_at,
             \(SQL.utc("q.resolved_at")) AS resolved_at, q.resolution, q.note
      FROM lethe.quarantine AS q JOIN lethe.chunk AS c USING (chunk_id)
      JOIN lethe.run AS r USING (run_id) JOIN lethe.job AS j ON j.job_id = q.job_id
      WHERE (\(pipeline)::text IS NULL OR r.pipeline = \(pipeline)::text)
        AND (\(includingResolved) OR q.resolved_at IS NULL)
        AND q.quarantine_id > \(after)
      ORDER BY q.quarantine_id LIMIT \(limit)
      """
    ).rows.map { row in
      try Line(
        quarantineID: row["quarantine_id"], pipeline: row["pipeline"], runID: row["run_id"],
        chunkID: row["chunk_id"], job: row["api_id"], number: row["line"],
        id: row["id"], isInChunk: row["in_chunk"], why: row["why"], raw: row["raw"],
        rawBytes: row["raw_bytes"], quarantinedAt: row["quarantined_at"],
        seen: row["seen"], lastSeenAt: row["last_seen_at"], resolvedAt: row["resolved_at"],
        resolution: row["resolution"], note: row["note"])
    }
  }

  /// The number of lines that wait for an operator.
  public func openLines(pipeline: String?) async throws -> Int {
    try await connection.query(
      """
      SELECT count(*)
      FROM lethe.quarantine AS q JOIN lethe.chunk AS c USING (chunk_id)
      JOIN lethe.run AS r USING (run_id)
      WHERE q.resolved_at IS NULL AND (\(pipeline)::text IS NULL OR r.pipeline = \(pipeline)::text)
      """
    ).onlyRow(as: Int.self)
  }

  /// Resolves lines as dismissed by an operator, without applying them. Dismisses all of the lines, or none.
  /// - Throws: `LedgerError` with up to ten of the lines that are not open.
  public func dismiss(_ ids: Set<Int64>, note: String) async throws {
    try await connection.withTransaction { transaction in
      // The lines are locked first, so that no other process resolves a line in between.
      try await transaction.execute(
        """
        SELECT FROM lethe.quarantine WHERE quarantine_id = ANY (\(ids.sorted())::bigint[])
        ORDER BY quarantine_id FOR UPDATE
        """)
      try await Self.requireOpen(ids, pipeline: nil, on: transaction)
      try await transaction.execute(
        """
        UPDATE lethe.quarantine
        SET resolved_at = clock_timestamp(), resolution = 'dismissed', note = \(prose: note)
        WHERE quarantine_id = ANY (\(ids.sorted())::bigint[]) AND resolved_at IS NULL
        """)
    }
  }

  /// Dismisses every open line.
  /// - Parameter pipeline: lines of this pipeline only.
  /// - Returns: how many lines were dismissed.
  public func dismissAll(pipeline: String?, note: String) async throws -> Int {
    try await connection.execute(
      """
      UPDATE lethe.quarantine AS q
      SET resolved_at = clock_timestamp(), resolution = 'dismissed', note = \(prose: note)
      FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
      WHERE c.chunk_id = q.chunk_id AND q.resolved_at IS NULL
        AND (\(pipeline)::text IS NULL OR r.pipeline = \(pipeline)::text)
      """)
  }

  // MARK: Reading again

  /// A chunk with open lines. If the lines cannot be read again now, `obstacle` gives the reason.
  public struct ChunkWithLines: Sendable {
    public let chunkID: Int64
    public let runID: Int64
    public let obstacle: String?
  }

  /// The chunks with open lines of a pipeline, in order.
  ///
  /// - Parameter ids: these lines only.
  /// - Throws: `LedgerError` with up to ten of the IDs that are not open lines of the pipeline.
  public func chunks(
    withOpenLines ids: Set<Int64>?, pipeline: String
  ) async throws -> [ChunkWithLines] {
    if let ids { try await Self.requireOpen(ids, pipeline: pipeline, on: connection) }
    return try await connection.query(
      """
      SELECT c.chunk_id, c.run_id,
             CASE WHEN r.status = \(run: .failed) AND r.is_given_up
                  THEN 'run ' || r.run_id || ' was given up, and later runs have asked about the IDs again: dismiss the lines'
                  WHEN c.state = \(state: .failed)
                  THEN 'the chunk is set aside: retry it first with lethe retry PIPELINE ' || c.chunk_id
                  WHEN c.state <> \(state: .applied)
                  THEN 'the chunk is not applied yet: finish it with lethe run PIPELINE --resume-only' END
      FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
      WHERE r.pipeline = \(pipeline)
        AND EXISTS (SELECT FROM lethe.quarantine AS q
                    WHERE q.chunk_id = c.chunk_id AND q.resolved_at IS NULL
                      AND (\(ids?.sorted())::bigint[] IS NULL
                        OR q.quarantine_id = ANY (\(ids?.sorted())::bigint[])))
      ORDER BY c.chunk_id
      """
    ).rows(as: Int64.self, Int64.self, String?.self)
      .map { ChunkWithLines(chunkID: $0.0, runID: $0.1, obstacle: $0.2) }
  }

  private static func requireOpen(
    _ ids: Set<Int64>, pipeline: String?, on session: some Session
  ) async throws {
    let missing = try await session.query(
      """
      SELECT number FROM pg_catalog.unnest(\(ids.sorted())::bigint[]) AS named (number)
      WHERE NOT EXISTS (
        SELECT FROM lethe.quarantine AS q JOIN lethe.chunk AS c USING (chunk_id)
        JOIN lethe.run AS r USING (run_id)
        WHERE q.quarantine_id = named.number AND q.resolved_at IS NULL
          AND (\(pipeline)::text IS NULL OR r.pipeline = \(pipeline)::text))
      ORDER BY number LIMIT 10
      """
    ).rows(as: String.self)
    guard !missing.isEmpty else { return }
    throw LedgerError(
      code: .missing,
      message: """
        no open line of the quarantine\(pipeline.map { " of \($0)" } ?? "") has the number \
        \(missing.joined(separator: ", ")); nothing was changed
        """,
      remedy: "run lethe quarantine list to see the open lines")
  }
}
