internal import PostgreSQL

/// The jobs in the database. Every change is one guarded statement, so it is there whole or not at all
/// whenever the server is killed, and two requests cannot both make it.
struct JobStore: Sendable {
  struct Lifetimes: Sendable {
    let upload: Duration
    let download: Duration
  }

  let pool: ConnectionPool
  let lifetimes: Lifetimes

  /// The `error` of a job that its App has cancelled: the API has no status for that.
  static let cancelledError = "The job was cancelled."

  /// The members of a `Job`, in the order that `job(_:)` reads them.
  private static let columns = """
    id, type, status, name, error, profile, resumable,
    to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    to_char(upload_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    to_char(download_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    upload_expires_at > clock_timestamp(), download_expires_at > clock_timestamp(),
    submission_file, result_file, result_bytes, submission_hash, result_hash
    """

  // MARK: What an App asks for

  /// - Returns: nil if the App has an active job of this type.
  func create(
    _ type: JobType, name: String?, profile: WireProfile, isResumable: Bool, for app: AppID
  ) async throws -> Job? {
    try await expireUnused()
    return try await jobs(
      """
      INSERT INTO compliance.jobs
        (app_id, type, name, profile, resumable, created_at, upload_expires_at,
          download_expires_at)
      SELECT $1, $2::compliance.job_type, $3, $4::compliance.profile, $5, now,
        now + $6 * interval '1 microsecond', now + $7 * interval '1 microsecond'
      FROM (SELECT date_trunc('milliseconds', clock_timestamp()) AS now) clock
      ON CONFLICT (app_id, type) WHERE status IN ('created', 'in_progress') DO NOTHING
      RETURNING \(Self.columns)
      """,
      .text(app.hex), .text(type.rawValue), Parameter(name), .text(profile.rawValue),
      .bool(isResumable), .integer(lifetimes.upload.microseconds),
      .integer(lifetimes.download.microseconds)
    ).first
  }

  /// Newest first.
  func list(_ type: JobType, _ status: JobStatus?, of app: AppID) async throws -> [Job] {
    try await expireUnused()
    return try await jobs(
      """
      SELECT \(Self.columns) FROM compliance.jobs
      WHERE app_id = $1 AND type = $2::compliance.job_type
        AND ($3::compliance.job_status IS NULL OR status = $3::compliance.job_status)
      ORDER BY created_at DESC, id DESC
      """,
      .text(app.hex), .text(type.rawValue), Parameter(status?.rawValue))
  }

  /// - Returns: nil for an unknown job and for one of another App.
  func job(_ id: Int64, of app: AppID) async throws -> Job? {
    try await expireUnused()
    return try await jobs(
      "SELECT \(Self.columns) FROM compliance.jobs WHERE id = $1 AND app_id = $2",
      .integer(id), .text(app.hex)
    ).first
  }

  /// The job of a storage URL: that one is the credential, whoever presents it.
  func storedJob(_ id: Int64) async throws -> Job? {
    try await expireUnused()
    return try await jobs([id]).first { $0.profile == .gcs }
  }

  /// Whether bytes of the gcs profile may still come or go.
  func hasStorageJobs() async throws -> Bool {
    let result = try await pool.withConnection {
      try await $0.query(
        """
        SELECT EXISTS (SELECT FROM compliance.jobs WHERE profile = 'gcs'
                         AND (status IN ('created', 'in_progress')
                              OR status = 'complete' AND download_expires_at > clock_timestamp()))
        """)
    }
    return try result.onlyRow(as: Bool.self)
  }

  /// Lets the upload's time be over.
  func endUploadTime(_ id: Int64) async throws {
    _ = try await pool.withConnection {
      try await $0.run(
        """
        UPDATE compliance.jobs SET upload_expires_at = created_at
        WHERE id = $1 AND status = 'created'
        """, [.integer(id)])
    }
  }

  /// - Returns: nil if the App has no such job that is still active.
  func cancel(_ id: Int64, of app: AppID) async throws -> Job? {
    try await expireUnused()
    return try await jobs(
      """
      UPDATE compliance.jobs
      SET status = 'failed', error = $3, finished_at = clock_timestamp()
      WHERE id = $1 AND app_id = $2 AND status IN ('created', 'in_progress')
      RETURNING \(Self.columns)
      """,
      .integer(id), .text(app.hex), .text(Self.cancelledError)
    ).first
  }

  /// Makes stored bytes the job's submission.
  /// - Returns: nil if the job is not `created` any more.
  func beginProcessing(
    _ id: Int64, submission file: String, hash: ObjectHash? = nil
  ) async throws -> Job? {
    try await expireUnused()
    return try await jobs(
      """
      UPDATE compliance.jobs
      SET status = 'in_progress', submission_file = $2, submission_hash = $3,
        uploaded_at = clock_timestamp()
      WHERE id = $1 AND status = 'created'
      RETURNING \(Self.columns)
      """,
      .integer(id), .text(file), Parameter(hash?.text)
    ).first
  }

  // MARK: What the service does by itself

  /// The jobs to process, whoever was waiting longest first.
  func inProgress() async throws -> [Job] {
    try await jobs(
      """
      SELECT \(Self.columns) FROM compliance.jobs WHERE status = 'in_progress'
      ORDER BY uploaded_at, id
      """)
  }

  /// - Returns: nil if the job was cancelled meanwhile.
  func complete(
    _ id: Int64, result file: String, bytes: Int64, hash: ObjectHash?
  ) async throws -> Job? {
    try await jobs(
      """
      UPDATE compliance.jobs
      SET status = 'complete', result_file = $2, result_bytes = $3, result_hash = $4,
        finished_at = clock_timestamp()
      WHERE id = $1 AND status = 'in_progress'
      RETURNING \(Self.columns)
      """,
      .integer(id), .text(file), .integer(bytes), Parameter(hash?.text)
    ).first
  }

  /// - Returns: nil if the job was cancelled meanwhile.
  func fail(_ id: Int64, error: String) async throws -> Job? {
    try await jobs(
      """
      UPDATE compliance.jobs
      SET status = 'failed', error = $2, finished_at = clock_timestamp()
      WHERE id = $1 AND status = 'in_progress'
      RETURNING \(Self.columns)
      """,
      .integer(id), .text(error)
    ).first
  }

  /// How many jobs there are, of all Apps.
  struct Count: Sendable {
    let type: JobType
    let status: JobStatus
    let count: Int64
  }

  func counts() async throws -> [Count] {
    try await pool.withConnection {
      try await $0.query(
        "SELECT type, status, count(*) FROM compliance.jobs GROUP BY type, status ORDER BY 1, 2")
    }.rows(as: JobType.self, JobStatus.self, Int64.self)
      .map { Count(type: $0.0, status: $0.1, count: $0.2) }
  }

  /// Which of these jobs are known, as they are now.
  func jobs(_ ids: [Int64]) async throws -> [Job] {
    try await jobs(
      "SELECT \(Self.columns) FROM compliance.jobs WHERE id = ANY($1::bigint[])", .integers(ids))
  }

  /// Frees the slots of jobs whose upload did not come in time. One that was begun in time in parts may go on
  /// as long as its session lives, unless it is abandoned: no part has come for as long as the whole upload
  /// had time. Every endpoint does so first: nobody sees a job in a state that it has outlived.
  func expireUnused() async throws {
    _ = try await pool.withConnection {
      try await $0.execute(
        """
        UPDATE compliance.jobs SET status = 'expired', finished_at = clock_timestamp()
        WHERE status = 'created' AND upload_expires_at <= clock_timestamp()
          AND NOT EXISTS (
            SELECT FROM compliance.upload_sessions
            WHERE job_id = jobs.id AND cancelled_at IS NULL AND expires_at > clock_timestamp()
              AND used_at > clock_timestamp() - (upload_expires_at - created_at))
        """)
    }
  }

  private func jobs(_ sql: String, _ parameters: Parameter...) async throws -> [Job] {
    try await pool.withConnection { try await $0.run(sql, parameters) }
      .rows(
        as: Int64.self, JobType.self, JobStatus.self, String?.self, String?.self,
        WireProfile.self, Bool.self, String.self, String.self, String.self, Bool.self, Bool.self,
        String?.self, String?.self, Int64?.self, String?.self, String?.self
      )
      .map {
        Job(
          id: $0.0, type: $0.1, status: $0.2, name: $0.3, error: $0.4, profile: $0.5,
          isResumable: $0.6, createdAt: $0.7, uploadExpiresAt: $0.8, downloadExpiresAt: $0.9,
          uploadIsOpen: $0.10, downloadIsOpen: $0.11, submissionFile: $0.12, resultFile: $0.13,
          resultBytes: $0.14, submissionHash: $0.15, resultHash: $0.16)
      }
  }
}

extension Duration {
  /// Whole microseconds, the resolution of PostgreSQL's clock.
  fileprivate var microseconds: Int64 {
    components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000
  }
}
