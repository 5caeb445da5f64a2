public import PostgreSQL

enum JobType: String, Sendable, CaseIterable, ColumnDecodable {
  case tweets
  case users

  static func decode(columnText text: String?) -> JobType? { text.flatMap(JobType.init) }
}

/// `created → in_progress → complete`; the first two also end in `failed`, and `created` in `expired`.
enum JobStatus: String, Sendable, CaseIterable, ColumnDecodable {
  /// Waits for its upload and holds the App's slot for its type.
  case created
  /// Its upload is stored and is being worked on, or waits for that; holds the slot as well.
  case inProgress = "in_progress"
  case complete
  case failed
  /// Nothing was uploaded in time.
  case expired

  static func decode(columnText text: String?) -> JobStatus? { text.flatMap(JobStatus.init) }

  /// What a list can be filtered by. `expired` is not among it.
  static let filters: [JobStatus] = [.created, .inProgress, .failed, .complete]
}

/// How a job's bytes travel, and the form of its result's lines.
public enum WireProfile: String, Sendable, CaseIterable, ColumnDecodable {
  /// Through the API's own host, with the App's bearer token.
  case native
  /// Through a storage host of its own, where the signed URL is the only credential: what Google Cloud
  /// Storage did for the API until August 2026.
  case gcs

  public static func decode(columnText text: String?) -> WireProfile? {
    text.flatMap(WireProfile.init)
  }
}

/// A row of `compliance.jobs`, its instants as the API writes them.
struct Job: Sendable {
  let id: Int64
  let type: JobType
  let status: JobStatus
  let name: String?
  let error: String?
  let profile: WireProfile
  /// Whether its upload may come in parts; only the gcs profile knows that.
  let isResumable: Bool
  let createdAt: String
  let uploadExpiresAt: String
  let downloadExpiresAt: String
  /// By the database's clock, when the row was read.
  let uploadIsOpen: Bool
  let downloadIsOpen: Bool
  let submissionFile: String?
  let resultFile: String?
  let resultBytes: Int64?
  /// Of the gcs profile's objects.
  let submissionHash: String?
  let resultHash: String?
}
