package import SQLText
package import Vocabulary

/// The dataset and job whose answers a batch applies. The batch's records, holds and tombstones refer to this dataset
/// and job.
package struct BatchOrigin: Sendable {
  package let pipeline: String
  package let dataset: String
  /// The type of the dataset's IDs.
  package let type: JobType
  package let chunkID: Int64
  package let jobID: Int64
  /// The time when the API created the job, in PostgreSQL's format.
  package let askedAt: String
  /// The batch's number in `lethe.batch`.
  package var number: Int
  /// The identifier of the database cluster that assigns the transaction IDs in the holds. Nil if it is unknown.
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
