internal import PostgreSQL

/// A job on the operator's status page.
struct JobOverview: Sendable {
  let id: Int64
  let app: AppID
  let type: JobType
  let displayStatus: DisplayStatus
  let name: String?
  let error: String?
  let profile: WireProfile
  /// Such as `2021-08-11 19:42:55`, in UTC.
  let createdAt: String
  /// The time since the job's upload, or from the upload to the job's end; nil without an upload.
  let workSeconds: Double?
  /// The time that is left for the upload.
  let uploadSecondsLeft: Double
  let resultBytes: Int64?

  /// A job's status, with `cancelled` in addition. In the API, a cancelled job is `failed`.
  enum DisplayStatus: String, CaseIterable {
    case created
    case inProgress = "in_progress"
    case complete
    case failed
    case cancelled
    case expired

    init(_ status: JobStatus, error: String?) {
      switch status {
      case .created: self = .created
      case .inProgress: self = .inProgress
      case .complete: self = .complete
      case .failed: self = error == JobStore.cancelledError ? .cancelled : .failed
      case .expired: self = .expired
      }
    }
  }
}

extension JobStore {
  /// Returns the newest jobs of all Apps, newest first. The order by ID is the order of creation, because IDs are
  /// snowflakes.
  func newest(_ countMax: Int) async throws -> [JobOverview] {
    try await expireUnused()
    return try await pool.withConnection {
      try await $0.query(
        """
        SELECT id, app_id, type, status, name, error, profile,
          to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS created_at,
          extract(epoch FROM coalesce(finished_at,
          clock_timestamp()) - uploaded_at)::float8 AS work_seconds,
          extract(epoch FROM upload_expires_at - clock_timestamp())::float8 AS upload_seconds_left,
          result_bytes
        FROM compliance.jobs ORDER BY id DESC LIMIT \(countMax)
        """)
    }
    .rows
    .map { row in
      JobOverview(
        id: try row["id"], app: AppID(hex: try row["app_id"]), type: try row["type"],
        displayStatus: JobOverview.DisplayStatus(try row["status"], error: try row["error"]),
        name: try row["name"], error: try row["error"], profile: try row["profile"],
        createdAt: try row["created_at"], workSeconds: try row["work_seconds"],
        uploadSecondsLeft: try row["upload_seconds_left"],
        resultBytes: try row["result_bytes"])
    }
  }

  /// Returns the number of jobs of all Apps, by status.
  func countsByDisplayStatus() async throws -> [JobOverview.DisplayStatus: Int64] {
    let rows = try await pool.withConnection {
      try await $0.query(
        """
        SELECT status, CASE WHEN error = \(Self.cancelledError) THEN error END AS reason, count(*)
        FROM compliance.jobs GROUP BY status, reason
        """)
    }.rows(as: JobStatus.self, String?.self, Int64.self)
    return rows.reduce(into: [:]) { counts, row in
      counts[JobOverview.DisplayStatus(row.0, error: row.1), default: 0] += row.2
    }
  }
}
