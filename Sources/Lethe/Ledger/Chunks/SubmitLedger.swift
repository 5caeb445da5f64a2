public import ChunkFiles
import CrashPoints
public import PostgreSQL
import SystemPackage
public import Vocabulary

/// The records of submit, for the steps from `exported` to `uploaded`.
extension ChunkLedger {
  /// Records the intent to create a job, before the API is called. If the connection breaks during the
  /// creation, the job can then be found by its name.
  public func jobIntended(for chunk: Chunk) async throws -> Attempt {
    try await connection.withTransaction(recording: .jobIntended) { transaction in
      try await ChunkQueries.guarded(
        transaction, chunk.label,
        """
        SELECT FROM lethe.chunk WHERE chunk_id = \(chunk.id) AND lease = \(lease.token)
          AND state IN (\(states: ChunkTransition.jobCreated.from)) FOR UPDATE
        """)
      let (jobID, number, name) = try await transaction.query(
        """
        INSERT INTO lethe.job (chunk_id, attempt, name)
        SELECT \(chunk.id)::bigint, n,
          \(Self.jobName(of: chunk)) || '-a' || n || '-' || \(Self.digits(of: chunk.sha256))
        FROM (SELECT coalesce(max(attempt), 0) + 1 AS n FROM lethe.job
          WHERE chunk_id = \(chunk.id)::bigint) AS next
        RETURNING job_id, attempt, name
        """
      ).onlyRow(as: Int64.self, Int.self, String.self)
      return Attempt(jobID: jobID, number: number, name: name, apiID: nil)
    }
  }

  /// Records that the job exists at the API: the API has confirmed the creation, or a list of jobs contains the job's
  /// name.
  ///
  /// - Parameters:
  ///   - at: the time of the creation by the API's clock. Lethe orders the answers of jobs by this time. Nil if the API
  ///     returned no plausible time. Then the current time by the database's clock is used.
  ///   - uploadHost: the host for the job's upload.
  /// - Throws: `DuplicateJobID` if another job already has the same API ID. Then nothing is recorded.
  public func jobCreated(
    _ attempt: Attempt, of chunk: Chunk, apiID: String, at: Timestamp?, uploadHost: String? = nil
  ) async throws -> Attempt {
    do {
      try await record(attempt, of: chunk, apiID: apiID, at: at, uploadHost)
    } catch let error as PostgreSQLError where error.constraint == "job_api_id_key" {
      let name = try await connection.query(
        "SELECT name FROM lethe.job WHERE api_id = \(apiID)"
      ).firstRow(as: String.self)
      throw DuplicateJobID(apiID: apiID, formerName: name)
    }
    return Attempt(
      jobID: attempt.jobID, number: attempt.number, name: attempt.name, apiID: apiID)
  }

  private func record(
    _ attempt: Attempt, of chunk: Chunk, apiID: String, at: Timestamp?, _ uploadHost: String?
  ) async throws {
    try await connection.withTransaction(recording: .jobCreated) { transaction in
      try await ChunkQueries.guarded(
        transaction, chunk.label,
        """
        UPDATE lethe.job
        SET api_id = \(apiID), status = \(JobStatus.created.description), created_at = clock_timestamp(),
            asked_at = coalesce(\(at?.sql ?? "NULL"), clock_timestamp()), upload_host = \(prose: uploadHost)
        WHERE job_id = \(attempt.jobID) AND api_id IS NULL AND ended_at IS NULL
        """)
      try await make(.jobCreated, of: chunk, on: transaction)
    }
  }

  /// The time since `jobIntended` recorded the attempt, by the database's clock.
  public func secondsSinceIntent(_ attempt: Attempt) async throws -> Double {
    try await connection.query(
      """
      SELECT extract(epoch FROM clock_timestamp() - intended_at)::float8
      FROM lethe.job WHERE job_id = \(attempt.jobID)
      """
    ).onlyRow(as: Double.self)
  }

  /// Records that the API has accepted every byte of the chunk.
  public func fileUploaded(_ attempt: Attempt, of chunk: Chunk) async throws {
    try await connection.withTransaction(recording: .uploadRecorded) { transaction in
      try await transaction.executeOne(
        """
        UPDATE lethe.job SET uploaded_at = clock_timestamp() WHERE job_id = \(attempt.jobID)
        AND ended_at IS NULL
        """
      )
      try await make(.fileUploaded, of: chunk, on: transaction)
    }
  }

  /// Records that the chunk's file was lost before its upload and was written again from the warehouse.
  public func fileReplaced(of chunk: Chunk, by file: ChunkFile) async throws {
    try await connection.withTransaction(recording: .fileReplaced) { transaction in
      try await ChunkQueries.guarded(
        transaction, chunk.label,
        """
        UPDATE lethe.chunk
        SET first_id = \(file.firstID), last_id = \(file.lastID), ids = \(file.ids),
          bytes = \(file.bytes), sha256 = \(file.sha256), path = \(file.path.string),
          file_host = nullif(\(lease.host), '')
        WHERE chunk_id = \(chunk.id) AND lease = \(lease.token) AND state = \(state: .exported)
        """)
      // A job with the former name is about the former file.
      try await transaction.execute(
        """
        UPDATE lethe.job
        SET name = \(Self.jobName(of: chunk)) || '-a' || attempt || '-' || \(Self.digits(of: file.sha256))
        WHERE chunk_id = \(chunk.id) AND ended_at IS NULL AND api_id IS NULL
        """)
    }
  }

  // MARK: Names of jobs

  /// The beginning of the names of a chunk's jobs. A name has at most 60 characters.
  private static func jobName(of chunk: Chunk) -> String {
    "lethe-\(chunk.runKey)-c\(chunk.id)"
  }

  /// The name of a job contains these digits of its file's SHA-256. A database that lost its last transactions in a
  /// failover assigns the same chunk IDs again, and a job of the former chunk must not be used for the new chunk.
  private static func digits(of sha256: [UInt8]) -> String {
    sha256.prefix(4).map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined()
  }

  /// Finds jobs that runs of this ledger have created, and that no open attempt uses. Causes: the process that created
  /// such a job lost its lease before it could record the job, or the attempt was ended before the job.
  ///
  /// - Parameter jobs: jobs at the API: their IDs and names.
  /// - Returns: the IDs of the jobs that can be cancelled.
  public func unwanted(_ jobs: [(apiID: String, name: String)]) async throws -> Set<String> {
    Set(
      try await connection.query(
        """
        SELECT a.api_id
        FROM unnest(\(jobs.map(\.apiID))::text[], \(jobs.map(\.name))::text[]) AS a (api_id, name)
        WHERE EXISTS (SELECT FROM lethe.run AS r WHERE starts_with(a.name, 'lethe-' || r.key || '-c'))
          AND NOT EXISTS (SELECT FROM lethe.job AS j
                          WHERE j.ended_at IS NULL
                            AND (j.api_id = a.api_id OR j.api_id IS NULL AND j.name = a.name))
        """
      ).rows(as: String.self))
  }

  /// Whether the ledger has an attempt with this job of the API.
  public static func isRecorded(_ apiID: String, on session: some Session) async throws -> Bool {
    try await session.query(
      "SELECT EXISTS (SELECT FROM lethe.job WHERE api_id = \(apiID))"
    ).onlyRow(as: Bool.self)
  }

  /// How often a chunk was cut, and the size that its upload host has refused. From these, Lethe decides whether the
  /// chunk is too large and whether a cut can help.
  public struct CutHistory: Sendable {
    /// The number of times that the chunk was cut, including the cuts of the larger chunks from which it was cut.
    public let cuts: Int
    /// The smallest size that the host of the run's newest job has refused in this run. Sizes that are not larger than
    /// an accepted size are ignored. Nil if there is no such size.
    public let refusedBytes: Int?

    /// The largest number of cuts. Seven cuts make a chunk of 120 MB smaller than 1 MB.
    private static let cutsMax = 7

    /// Whether the chunk is larger than the refused size, or at most a sixteenth smaller. A host that refused that size
    /// would probably also refuse a file that is only a little smaller.
    public func isTooLarge(_ chunk: Chunk) -> Bool {
      guard let refusedBytes else { return false }
      return chunk.bytes >= refusedBytes - refusedBytes / 16
    }

    /// Whether cutting can help. The number of cuts is limited, because a host could refuse every size.
    public func cutMayHelp(_ chunk: Chunk) -> Bool {
      guard chunk.ids > 1, cuts < Self.cutsMax else { return false }
      guard let refusedBytes else { return true }
      return max(chunk.bytes >> (Self.cutsMax - cuts), chunk.bytes / chunk.ids) < refusedBytes
    }
  }

  public func cutHistory(of chunk: Chunk) async throws -> CutHistory {
    let (cuts, refusedBytes) = try await connection.query(
      """
      WITH job AS (
        SELECT j.job_id, j.upload_host, j.refused_bytes, j.uploaded_at, c.bytes
        FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id)
        WHERE c.run_id = \(chunk.runID) AND j.upload_host IS NOT NULL
      ), of_host AS (
        SELECT * FROM job
        WHERE upload_host = (SELECT upload_host FROM job ORDER BY job_id DESC LIMIT 1)
      )
      SELECT c.cuts, (SELECT min(refused_bytes) FROM of_host
                      WHERE refused_bytes > coalesce((SELECT max(bytes) FROM of_host
                                                      WHERE uploaded_at IS NOT NULL), 0))
      FROM lethe.chunk AS c WHERE c.chunk_id = \(chunk.id)
      """
    ).onlyRow(as: Int.self, Int?.self)
    return CutHistory(cuts: cuts, refusedBytes: refusedBytes)
  }

  /// Records that the host refused the chunk's file as too large.
  public func sizeRefused(_ attempt: Attempt, of chunk: Chunk) async throws {
    try await connection.execute(
      recording: .sizeRefused,
      """
      UPDATE lethe.job SET refused_bytes = \(chunk.bytes) WHERE job_id = \(attempt.jobID)
      """)
  }

  /// Cuts a chunk that is too large for its host into two chunks. Each of the two chunks gets the full number of
  /// attempts again.
  ///
  /// - Parameters:
  ///   - attempt: the attempt that the host refused. Nil for a chunk without a job.
  ///   - parts: two files with all IDs of the chunk, in order. The second file becomes a new chunk.
  public func chunkCut(
    _ chunk: Chunk, after attempt: Attempt?, why: String, into parts: (ChunkFile, ChunkFile)
  ) async throws {
    let (first, rest) = parts
    try await connection.withTransaction(recording: .chunkCut) { transaction in
      if let attempt { try await end(attempt, why: why, on: transaction) }
      // The export updates the same row when it adds a chunk. So it cannot assign the new chunk's number to another
      // chunk.
      try await transaction.executeOne(
        """
        UPDATE lethe.export SET chunks = chunks + 1 WHERE run_id = \(chunk.runID)
        AND dataset = \(chunk.dataset)
        """
      )
      try await ChunkQueries.guarded(
        transaction, chunk.label,
        ChunkTransition.cut.update(
          of: chunk, orIn: [.exported], heldBy: lease,
          setting: """
            first_id = \(first.firstID), last_id = \(first.lastID), ids = \(first.ids),
            bytes = \(first.bytes), sha256 = \(first.sha256), path = \(first.path.string),
            file_host = nullif(\(lease.host), ''), cuts = cuts + 1,
            attempts_before = (SELECT coalesce(max(j.attempt), 0) FROM lethe.job AS j WHERE j.chunk_id = c.chunk_id)
            """))
      try await ChunkQueries.guarded(
        transaction, chunk.label,
        """
        INSERT INTO lethe.chunk
          (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path, lease,
           file_host, exported_snapshot, exported_cluster, cuts)
        SELECT c.run_id, c.dataset, c.type,
               (SELECT max(o.number) + 1 FROM lethe.chunk AS o
                WHERE o.run_id = c.run_id AND o.dataset = c.dataset),
               \(rest.firstID), \(rest.lastID), \(rest.ids), \(rest.bytes), \(rest.sha256),
               \(rest.path.string), c.lease, c.file_host, c.exported_snapshot, c.exported_cluster,
               c.cuts
        FROM lethe.chunk AS c WHERE c.chunk_id = \(chunk.id) AND c.lease = \(lease.token)
        """)
    }
  }
}
