/// Where the service waits for a test's permission to go on, so that an interruption can be put exactly
/// there.
public enum ServicePoint: Sendable, Hashable {
  /// A create of this type is well-formed; nothing was done about it.
  case createReceived(type: String)
  /// The job is in the database; its answer was not sent.
  case createCommitted(jobID: String)
  /// An upload's bytes are on disk; the job is still `created`.
  case uploadReceived(jobID: String)
  /// The job is `in_progress`; the upload's answer was not sent.
  case uploadCommitted(jobID: String)
  /// The job is about to be processed, for the first time or after a restart.
  case processing(jobID: String)
  /// The processing of the job is over, whatever came of it.
  case processed(jobID: String)
  /// A download is allowed; not a byte of it was sent.
  case downloadRequested(jobID: String)
}
