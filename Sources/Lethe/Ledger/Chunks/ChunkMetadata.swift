public import Logging

extension Chunk {
  /// The metadata of log lines about the chunk: the stage, the run, the dataset, the chunk and the job.
  /// - Parameter job: the API's ID of the job, or its name if it has no ID. Nil if the line is not about a job.
  public func metadata(_ stage: String, job: String? = nil) -> Logger.Metadata {
    var metadata: Logger.Metadata = [
      "stage": "\(stage)", "run": "\(runID)", "dataset": "\(dataset)", "chunk": "\(id)",
    ]
    if let job { metadata["job"] = "\(job)" }
    return metadata
  }
}

extension ExportLedger {
  /// The metadata of log lines about the export of a dataset: the stage, the run and the dataset.
  public func metadata(_ dataset: String) -> Logger.Metadata {
    ["stage": "export", "run": "\(run.id)", "dataset": "\(dataset)"]
  }
}
