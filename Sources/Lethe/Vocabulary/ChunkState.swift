/// How far a chunk has come. Each stage moves it by one.
public enum ChunkState: String, Sendable, Hashable, CaseIterable {
  /// Its file is written and recorded. Next: submit creates a job.
  case exported
  /// Its job exists; its bytes are not known to have arrived. Next: submit uploads; back to
  /// `exported` if the job dies.
  case created
  /// The API has its bytes. Next: await sees the job complete; back to `exported` if the job dies.
  case uploaded
  /// Its job is complete. Next: collect downloads; back to `exported` if the result is gone.
  case complete
  /// Its events are in the ledger, proven whole. Next: apply.
  case collected
  /// Every event is applied. The end.
  case applied
  /// Given up, with the reason recorded. The end.
  case failed
}
