internal import PostgreSQL

/// The jobs in the database. Each change is one statement with a condition on the status. So a crash leaves all of
/// the change or nothing, and only one of two concurrent requests can make the change.
struct JobStore: Sendable {
  struct Lifetimes: Sendable {
    let upload: Duration
    let download: Duration
  }

  let pool: ConnectionPool
  let lifetimes: Lifetimes

  /// The `error` of a cancelled job. The API has no status for cancelled jobs.
  static let cancelledError = "The job was cancelled."

  /// The columns of a `Job`, with the names that `jobs(_:)` reads.
  private static let columns: SQL = """
    id, type, status, name, error, profile, resumable,
    \(SQL.utc("created_at", .milliseconds)) AS created,
    \(SQL.utc("upload_expires_at", .milliseconds)) AS upload_expires,
    \(SQL.utc("download_expires_at", .milliseconds)) AS download_expires,
    upload_expires_at > clock_timestamp() AS upload_is_open,
    download_expires_at > clock_timestamp() AS download_is_open,
    submission_file, result_file, result_bytes, submission_hash, result_hash
    """

  // MARK: Requests of an App

  /// Creates a job.
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
      SELECT \(app.hex), \(type.rawValue)::compliance.job_type, \(name),
        \(profile.rawValue)::compliance.profile, \(isResumable), now,
        now + \(lifetimes.upload.microseconds) * interval '1 microsecond',
        now + \(lifetimes.download.microseconds) * interval '1 microsecond'
      FROM (SELECT date_trunc('milliseconds', clock_timestamp()) AS now) clock
      ON CONFLICT (app_id, type) WHERE status IN ('created', 'in_progress') DO NOTHING
      RETURNING \(Self.columns)
      """
    ).first
  }

  /// The App's jobs of this type and status, newest first. A nil status means all statuses.
  func list(_ type: JobType, _ status: JobStatus?, of app: AppID) async throws -> [Job] {
    try await expireUnused()
    return try await jobs(
      """
      SELECT \(Self.columns) FROM compliance.jobs
      WHERE app_id = \(app.hex) AND type = \(type.rawValue)::compliance.job_type
        AND (\(status?.rawValue)::compliance.job_status IS NULL
          OR status = \(status?.rawValue)::compliance.job_status)
      ORDER BY created_at DESC, id DESC
      """)
  }

  /// Reads a job.
  /// - Returns: nil for an unknown job and for a job of another App.
  func job(_ id: Int64, of app: AppID) async throws -> Job? {
    try await expireUnused()
    return try await jobs(
      "SELECT \(Self.columns) FROM compliance.jobs WHERE id = \(id) AND app_id = \(app.hex)"
    ).first
  }

  /// Reads the job of a storage URL. The job of any App is returned, because the URL is the only credential.
  /// - Returns: nil for an unknown job and for a job of the native profile.
  func storageJob(_ id: Int64) async throws -> Job? {
    try await expireUnused()
    return try await jobs([id]).first { $0.profile == .gcs }
  }

  /// Whether a job of the gcs profile still needs the storage host, for its upload or its result.
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

  /// Ends the time for a job's upload now.
  func endUploadTime(_ id: Int64) async throws {
    _ = try await pool.withConnection {
      try await $0.run(
        """
        UPDATE compliance.jobs SET upload_expires_at = created_at
        WHERE id = \(id) AND status = 'created'
        """)
    }
  }

  /// Cancels a job.
  /// - Returns: nil if the App has no active job with this ID.
  func cancel(_ id: Int64, of app: AppID) async throws -> Job? {
    try await expireUnused()
    return try await jobs(
      """
      UPDATE compliance.jobs
      SET status = 'failed', error = \(Self.cancelledError), finished_at = clock_timestamp()
      WHERE id = \(id) AND app_id = \(app.hex) AND status IN ('created', 'in_progress')
      RETURNING \(Self.columns)
      """
    ).first
  }

  /// Records a stored file as the job's submission.
  /// - Returns: nil if the job is no longer `created`.
  func beginProcessing(
    _ id: Int64, submission file: String, hash: ObjectHash? = nil
  ) async throws -> Job? {
    try await expireUnused()
    return try await jobs(
      """
      UPDATE compliance.jobs
      SET status = 'in_progress', submission_file = \(file), submission_hash = \(hash?.text),
        uploaded_at = clock_timestamp()
      WHERE id = \(id) AND status = 'created'
      RETURNING \(Self.columns)
      """
    ).first
  }

  // MARK: Background work

  /// The jobs to process, oldest upload first.
  func inProgress() async throws -> [Job] {
    try await jobs(
      """
      SELECT \(Self.columns) FROM compliance.jobs WHERE status = 'in_progress'
      ORDER BY uploaded_at, id
      """)
  }

  /// Completes a job with its result.
  /// - Returns: nil if the job was cancelled in the meantime.
  func complete(
    _ id: Int64, result file: String, bytes: Int64, hash: ObjectHash?
  ) async throws -> Job? {
    try await jobs(
      """
      UPDATE compliance.jobs
      SET status = 'complete', result_file = \(file), result_bytes = \(bytes), result_hash = \(hash?.text),
        finished_at = clock_timestamp()
      WHERE id = \(id) AND status = 'in_progress'
      RETURNING \(Self.columns)
      """
    ).first
  }

  /// Marks a job as failed.
  /// - Returns: nil if the job was cancelled in the meantime.
  func fail(_ id: Int64, error: String) async throws -> Job? {
    try await jobs(
      """
      UPDATE compliance.jobs
      SET status = 'failed', error = \(error), finished_at = clock_timestamp()
      WHERE id = \(id) AND status = 'in_progress'
      RETURNING \(Self.columns)
      """
    ).first
  }

  /// The number of jobs of a type and status, over all Apps.
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

  /// Reads the jobs with the given IDs. Unknown IDs are left out.
  func jobs(_ ids: [Int64]) async throws -> [Job] {
    try await jobs(
      "SELECT \(Self.columns) FROM compliance.jobs WHERE id = ANY(\(ids)::bigint[])")
  }

  /// Expires the jobs that did not get their upload in time. This frees their slots.
  ///
  /// A job does not expire while a resumable upload, which began in time, continues. An upload session counts as
  /// abandoned if it receives no part during a time as long as the job's upload lifetime. Every function that reads or
  /// changes jobs for a client calls this function first. Otherwise a client could see an expired job as `created`.
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

  private func jobs(_ sql: SQL) async throws -> [Job] {
    try await pool.withConnection { try await $0.run(sql) }.rows.map { row in
      try Job(
        id: row["id"], type: row["type"], status: row["status"], name: row["name"],
        error: row["error"], profile: row["profile"], isResumable: row["resumable"],
        createdAt: row["created"], uploadExpiresAt: row["upload_expires"],
        downloadExpiresAt: row["download_expires"], uploadIsOpen: row["upload_is_open"],
        downloadIsOpen: row["download_is_open"], submissionFile: row["submission_file"],
        resultFile: row["result_file"], resultBytes: row["result_bytes"],
        submissionHash: row["submission_hash"], resultHash: row["result_hash"])
    }
  }
}

extension Duration {
  /// The duration in whole microseconds, the resolution of PostgreSQL's clock.
  fileprivate var microseconds: Int64 {
    components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000
  }
}
