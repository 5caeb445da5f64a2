/// The state of a chunk. Each stage moves it to the next one.
public enum ChunkState: String, Sendable, Hashable, CaseIterable {
  /// Its file is written and recorded. Next: submit creates a job.
  case exported
  /// Its job exists, and its upload is not confirmed. Next: submit uploads. Back to `exported` if the job
  /// fails.
  case created
  /// The API has its bytes. Next: await finds that the job is complete. Back to `exported` if the job fails.
  case uploaded
  /// Its job is complete. Next: collect downloads. Back to `exported` if the result is gone.
  case complete
  /// Its events are in the ledger, and the result was verified to be complete. Next: apply.
  case collected
  /// Every event is applied. Final.
  case applied
  /// Set aside or given up. The reason is recorded. Final, unless the chunk is retried.
  case failed
}
