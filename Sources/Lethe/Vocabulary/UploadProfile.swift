/// How the files of jobs are uploaded: `api.profile`.
public enum UploadProfile: String, Sendable, CaseIterable {
  /// The host of the API's upload URLs decides. Jobs are created for uploads in one piece until an upload URL has
  /// another host than the API. From then on, jobs are created for resumable uploads.
  case auto
  /// Files go to the API's own host, in one piece.
  case native
  /// Files go to a storage host, in parts.
  case gcs
}
