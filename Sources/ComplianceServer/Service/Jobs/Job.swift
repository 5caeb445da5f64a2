public import PostgreSQL

enum JobType: String, Sendable, CaseIterable, ColumnDecodable {
  case tweets
  case users

  static func decode(columnText text: String?) -> JobType? { text.flatMap(JobType.init) }
}

/// The status of a job: `created → in_progress → complete`. `created` and `in_progress` can also become `failed`.
/// `created` can also become `expired`.
enum JobStatus: String, Sendable, CaseIterable, ColumnDecodable {
  /// The job waits for its upload. It occupies the App's slot: an App can have only one `created` or `in_progress` job
  /// of each type.
  case created
  /// The upload is stored, and the job waits for processing or is being processed. The job still occupies the slot.
  case inProgress = "in_progress"
  case complete
  case failed
  /// No upload arrived in time.
  case expired

  static func decode(columnText text: String?) -> JobStatus? { text.flatMap(JobStatus.init) }

  /// The statuses by which a client can filter the list of jobs. The API does not allow `expired`.
  static let filters: [JobStatus] = [.created, .inProgress, .failed, .complete]
}

/// How a job's files are transferred, and the format of its result lines.
public enum WireProfile: String, Sendable, CaseIterable, ColumnDecodable {
  /// Transfers use the API's host and the App's bearer token.
  case native
  /// Transfers use a separate storage host, and the signed URL is the only credential. The API used Google Cloud
  /// Storage in this way until August 2026.
  case gcs

  public static func decode(columnText text: String?) -> WireProfile? {
    text.flatMap(WireProfile.init)
  }
}

/// A row of `compliance.jobs`, with times in the API's format.
struct Job: Sendable {
  let id: Int64
  let type: JobType
  let status: JobStatus
  let name: String?
  let error: String?
  let profile: WireProfile
  /// Whether the upload URL starts a resumable upload; only in the gcs profile.
  let isResumable: Bool
  let createdAt: String
  let uploadExpiresAt: String
  let downloadExpiresAt: String
  /// Whether `uploadExpiresAt` was in the future, by the database's clock when the row was read.
  let uploadIsOpen: Bool
  /// Whether `downloadExpiresAt` was in the future, by the database's clock when the row was read.
  let downloadIsOpen: Bool
  let submissionFile: String?
  let resultFile: String?
  let resultBytes: Int64?
  /// Hashes of the stored objects; only in the gcs profile.
  let submissionHash: String?
  let resultHash: String?
}
