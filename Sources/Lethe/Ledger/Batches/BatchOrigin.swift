package import SQLText
package import Vocabulary

/// Whose answers a batch applies: what its records, holds and tombstones refer to.
package struct BatchOrigin: Sendable {
  package let pipeline: String
  package let dataset: String
  /// Of the dataset's IDs.
  package let type: JobType
  package let chunkID: Int64
  package let jobID: Int64
  /// When the API made the job, as PostgreSQL writes it.
  package let askedAt: String
  /// The batch's number in `lethe.batch`.
  package var number: Int
  /// The cluster whose transaction numbers the holds keep; nil where it is not known.
  package let cluster: Int64?

  package init(
    pipeline: String, dataset: String, type: JobType, chunkID: Int64, jobID: Int64,
    askedAt: String, number: Int, cluster: Int64?
  ) {
    self.pipeline = pipeline
    self.dataset = dataset
    self.type = type
    self.chunkID = chunkID
    self.jobID = jobID
    self.askedAt = askedAt
    self.number = number
    self.cluster = cluster
  }

  package var typeSQL: SQL { "\(type.rawValue)::lethe.job_type" }
}
