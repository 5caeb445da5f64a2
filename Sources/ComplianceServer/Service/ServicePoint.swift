/// A point at which a test can pause the service, to interrupt it exactly there. Only jobs of the native profile reach
/// `uploadReceived`, `uploadCommitted` and `downloadRequested`.
public enum ServicePoint: Sendable, Hashable {
  /// A valid request to create a job of this type has arrived. Nothing is done yet.
  case createReceived(type: String)
  /// The job is in the database. The response is not sent yet.
  case createCommitted(jobID: String)
  /// The upload is on disk. The database does not refer to it yet.
  case uploadReceived(jobID: String)
  /// The database refers to the upload, and the processing can begin. The response is not sent yet.
  case uploadCommitted(jobID: String)
  /// The job is about to be processed, for the first time or again, for example after a restart.
  case processing(jobID: String)
  /// The processing of the job has ended, with or without success.
  case processed(jobID: String)
  /// A download is permitted. Nothing is sent yet.
  case downloadRequested(jobID: String)
}
