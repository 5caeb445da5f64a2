/// Where the bytes of jobs go, `api.profile`.
public enum UploadProfile: String, Sendable, CaseIterable {
  /// By what the API shows: jobs are created for uploads in one piece until an upload URL leads to another host, and
  /// for resumable ones from then on.
  case auto
  /// To the API's own host, in one piece.
  case native
  /// To a storage host, in parts.
  case gcs
}
