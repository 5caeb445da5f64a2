/// How the files of jobs are uploaded: `api.profile`.
public enum UploadProfile: String, Sendable, CaseIterable {
  /// The API's responses decide. Jobs are created for resumable uploads if the last upload URL had another origin than
  /// the API, and the API has not refused such a job. Otherwise, jobs are created for uploads in one piece.
  case auto
  /// Jobs are created for uploads in one piece. The API's own host requires this.
  case native
  /// Jobs are created for resumable uploads. A storage host then gets the file in parts.
  case gcs
}
