import PostgreSQL
import Vocabulary

/// The IDs whose rows are hidden on the word of an answer that is older than a job's: that by which rows
/// are held, and what versions without holds have protected for the dataset. A newer answer's rows are not
/// judged by the job.
///
/// The statements look IDs up in the indexes. A join would be planned on statistics that a ledger which
/// grows by tens of thousands of holders in one night does not have yet.
struct OlderHolds {
  let chunk: Chunk
  let jobID: Int64

  private var isOlder: SQL { "asked_at < (SELECT asked_at FROM lethe.job WHERE job_id = \(jobID))" }

  /// The condition that the ID `id` is one of them.
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

  /// In ascending order, those of the chunk's key range behind `after`.
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
