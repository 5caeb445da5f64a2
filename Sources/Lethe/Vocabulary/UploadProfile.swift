/// How the files of jobs are uploaded: `api.profile`.
public enum UploadProfile: String, Sendable, CaseIterable {
  /// By the API's answers: jobs are created for uploads in one piece until an upload URL has another host than the API,
  /// and from then on for resumable uploads.
  case auto
  /// To the API's own host, in one piece.
  case native
  /// To a storage host, in parts.
  case gcs
}
