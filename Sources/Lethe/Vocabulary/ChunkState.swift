/// The state of a chunk. Each stage moves it to the next one.
public enum ChunkState: String, Sendable, Hashable, CaseIterable {
  /// The chunk's file is written and recorded. Next: submit creates a job.
  case exported
  /// The chunk's job exists, and the upload is not confirmed. Next: submit uploads the file. Back to `exported` if the
  /// job fails or the chunk is cut.
  case created
  /// The file is uploaded. Next: await finds that the job is complete. Back to `exported` if the job fails.
  case uploaded
  /// The job is complete. Next: collect downloads the result. Back to `exported` if the result is not available or not
  /// usable, or if the chunk's file is lost.
  case complete
  /// The result was verified to be complete, and its events are in the ledger. Next: apply.
  case collected
  /// Every event is applied, superseded or set aside. Final, unless refused events or quarantined lines are retried.
  case applied
  /// Set aside or given up. The reason is recorded. Final, unless the chunk is retried.
  case failed
}
