import ChunkFiles
import Ledger
import PostgreSQL

/// Which IDs of the chunk a result speaks about by silence: all that it does not name, none, or all but
/// those about which it has a line that nobody may act on. Decided once and kept with the job; whatever
/// reads silence later asks `lethe.speaks_by_silence`.
struct SilenceDecision {
  let transaction: Transaction
  let ledger: ChunkLedger
  let attempt: Attempt

  private static let idsPerStatement: Int64 = 10_000

  /// To be called when each line of `lethe_scanned` has its `why`.
  func take(_ tally: ResultTally, _ index: ChunkIndex) async throws {
    try await ledger.silenceDecided(
      isSpoken: tally.speaksBySilence, of: attempt, on: transaction)
    let exceptions = try await transaction.execute(
      """
      INSERT INTO lethe.unspoken (job_id, id)
      SELECT DISTINCT \(attempt.jobID)::bigint, id FROM lethe_scanned WHERE why IS NOT NULL AND in_chunk
      """)
    if exceptions > 0 { try await placeExceptions(index) }
  }

  /// Notes where in the chunk they are: its file is gone when the coverage is written.
  private func placeExceptions(_ index: ChunkIndex) async throws {
    var after: Int64 = 0
    while true {
      let ids = try await transaction.query(
        """
        SELECT id FROM lethe.unspoken WHERE job_id = \(attempt.jobID) AND id > \(after) ORDER BY id
               LIMIT \(Self.idsPerStatement)
        """
      ).rows(as: Int64.self)
      guard let last = ids.last else { return }
      after = last
      try await transaction.execute(
        """
        UPDATE lethe.unspoken AS u SET ids_below = p.ids_below
        FROM unnest(\(ids)::bigint[],
          \(try ids.map { Int64(try index.idsBelow($0)) })::bigint[]) AS p (id, ids_below)
        WHERE u.job_id = \(attempt.jobID) AND u.id = p.id
        """)
    }
  }
}
