import PostgreSQL
import Vocabulary

/// The IDs whose rows are hidden because of an answer that is older than a job. These are the IDs that hold rows, and
/// the IDs that earlier versions protected for the dataset without holds. The job does not decide about rows that a
/// newer answer has hidden.
///
/// The statements look up IDs in the indexes. A join would be planned with statistics. But there are no statistics yet
/// for the tens of thousands of holders that one run can add.
struct OlderHolds {
  let chunk: Chunk
  let jobID: Int64

  private var isOlder: SQL { "asked_at < (SELECT asked_at FROM lethe.job WHERE job_id = \(jobID))" }

  /// The condition that the rows of `id` are hidden because of an answer that is older than the job.
  func hide(_ id: SQL) -> SQL {
    """
    (EXISTS (SELECT FROM lethe.holder AS h
             WHERE h.type = \(chunk.type.rawValue)::lethe.job_type AND h.id = \(id)
               AND h.\(isOlder) OFFSET 0)
     OR EXISTS (SELECT FROM lethe.protection AS h
                WHERE h.pipeline = \(chunk.pipeline) AND h.dataset = \(chunk.dataset)
                  AND h.id = \(id) AND h.\(isOlder) OFFSET 0))
    """
  }

  /// The IDs in the chunk's key range above `after` whose rows are hidden because of an older answer, in ascending
  /// order.
  func ids(after: Int64, limit: Int, on transaction: Transaction) async throws -> [Int64] {
    try await transaction.run(
      """
      (SELECT DISTINCT h.id FROM lethe.holder AS h
       WHERE h.type = \(chunk.type.rawValue)::lethe.job_type AND h.id > \(after)
         AND h.id <= \(chunk.lastID) AND h.\(isOlder)
       ORDER BY h.id LIMIT \(limit))
      UNION
      (SELECT h.id FROM lethe.protection AS h
       WHERE h.pipeline = \(chunk.pipeline) AND h.dataset = \(chunk.dataset) AND h.id > \(after)
         AND h.id <= \(chunk.lastID) AND h.\(isOlder)
       ORDER BY h.id LIMIT \(limit))
      ORDER BY id LIMIT \(limit)
      """
    ).rows(as: Int64.self)
  }
}
