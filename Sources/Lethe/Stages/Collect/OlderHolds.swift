import Ledger
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

  /// The parameters $1 to $4 of the statements.
  var parameters: [Parameter] {
    [.integer(jobID), .text(chunk.type.rawValue), .text(chunk.pipeline), .text(chunk.dataset)]
  }

  private static let isOlder = "asked_at < (SELECT asked_at FROM lethe.job WHERE job_id = $1)"

  /// The condition that the ID `id` is one of them.
  static func hide(_ id: String) -> String {
    """
    (EXISTS (SELECT FROM lethe.holder AS h
             WHERE h.type = $2::lethe.job_type AND h.id = \(id) AND h.\(isOlder) OFFSET 0)
     OR EXISTS (SELECT FROM lethe.protection AS h
                WHERE h.pipeline = $3 AND h.dataset = $4 AND h.id = \(id) AND h.\(isOlder) OFFSET 0))
    """
  }

  /// In ascending order, those of the chunk's key range behind `after`.
  func ids(after: Int64, limit: Int, on transaction: Transaction) async throws -> [Int64] {
    try await transaction.run(
      """
      (SELECT DISTINCT h.id FROM lethe.holder AS h
       WHERE h.type = $2::lethe.job_type AND h.id > $5 AND h.id <= $6 AND h.\(Self.isOlder)
       ORDER BY h.id LIMIT $7)
      UNION
      (SELECT h.id FROM lethe.protection AS h
       WHERE h.pipeline = $3 AND h.dataset = $4 AND h.id > $5 AND h.id <= $6 AND h.\(Self.isOlder)
       ORDER BY h.id LIMIT $7)
      ORDER BY id LIMIT $7
      """,
      parameters + [.integer(after), .integer(chunk.lastID), .integer(Int64(limit))]
    ).rows(as: Int64.self)
  }
}
