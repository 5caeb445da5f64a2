public import PostgreSQL
import Vocabulary

/// Which of two answers about an ID counts: that of the job which the API made later, whenever each is
/// collected or applied.
extension ChunkLedger {
  private static let idsPerStatement: Int64 = 10_000

  /// Marks the events that a newer answer about their IDs takes the place of: those of older jobs that
  /// are not applied yet, by this result; and this result's, by newer ones.
  ///
  /// - Parameter containing: which of these IDs the chunk had asked about.
  public func markSuperseded(
    by attempt: Attempt, of chunk: Chunk, containing: ([Int64]) throws -> [Int64],
    on transaction: Transaction
  ) async throws {
    try await lockAnswers(of: chunk, on: transaction)
    try await markOlder(than: attempt, chunk, containing, transaction)
    try await markSuperseded(jobID: attempt.jobID, of: chunk, on: transaction)
  }

  /// One result of a type at a time, until the transaction's end: of two that are collected side by side,
  /// the second one has to see the first.
  func lockAnswers(of chunk: Chunk, on transaction: Transaction) async throws {
    try await transaction.execute(
      "SELECT pg_advisory_xact_lock(hashtext('lethe.answers'), hashtext($1))",
      .text(chunk.type.rawValue))
  }

  /// Events of other chunks that wait to be applied. Absence means clean, so an older event falls also
  /// where this result says nothing, as long as its ID was asked about. The same event of another
  /// dataset stands: it is about other tables. So does one of which a part is applied.
  private func markOlder(
    than attempt: Attempt, _ chunk: Chunk, _ containing: ([Int64]) throws -> [Int64],
    _ transaction: Transaction
  ) async throws {
    let older = try await transaction.query(
      """
      SELECT o.chunk_id
      FROM lethe.chunk AS o JOIN lethe.job AS oj ON oj.chunk_id = o.chunk_id, lethe.job AS j
      WHERE j.job_id = $1 AND o.type = $2::lethe.job_type AND o.state = 'collected'
        AND oj.result_sha256 IS NOT NULL AND oj.asked_at < j.asked_at
        AND o.first_id <= $4 AND o.last_id >= $3
      ORDER BY o.chunk_id FOR NO KEY UPDATE OF o
      """, .integer(attempt.jobID), .text(chunk.type.rawValue), .integer(chunk.firstID),
      .integer(chunk.lastID)
    ).rows(as: Int64.self)
    for other in older {
      var after = chunk.firstID - 1
      while true {
        let ids = try await transaction.query(
          """
          SELECT id FROM lethe.collected
          WHERE chunk_id = $1 AND id > $2 AND id <= $3 AND superseded_by IS NULL
          ORDER BY id LIMIT $4
          """, .integer(other), .integer(after), .integer(chunk.lastID),
          .integer(Self.idsPerStatement)
        ).rows(as: Int64.self)
        guard let last = ids.last else { break }
        after = last
        try await transaction.execute(
          """
          UPDATE lethe.collected AS s SET superseded_by = $3
          FROM lethe.chunk AS o JOIN lethe.run AS r USING (run_id)
          WHERE s.chunk_id = $1 AND s.id = ANY ($2::bigint[]) AND s.changed IS NULL
            AND o.chunk_id = s.chunk_id
            AND (o.dataset = $5 AND r.pipeline = $6
                 OR NOT EXISTS (SELECT FROM lethe.collected AS n
                                WHERE n.chunk_id = $4 AND n.id = s.id AND n.reason = s.reason))
          """, .integer(other), .integers(try containing(ids)), .integer(attempt.jobID),
          .integer(chunk.id), .text(chunk.dataset), .text(chunk.pipeline))
      }
    }
  }

  /// Events of this result about IDs that a newer job has answered for: with an event that is on
  /// record, or, for a job of the same rows, by having asked about the key range they are in.
  func markSuperseded(
    jobID: Int64, of chunk: Chunk, on transaction: Transaction
  ) async throws {
    let newer = """
      SELECT n.chunk_id, nj.job_id, n.first_id, n.last_id,
             n.dataset = c.dataset AND nr.pipeline = r.pipeline AS is_same_dataset,
             n.dataset = c.dataset AND nr.pipeline = r.pipeline
               AND lethe.exported_rows(nr.definition, n.dataset)
                   IS NOT DISTINCT FROM lethe.exported_rows(r.definition, c.dataset) AS is_same
      FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id) JOIN lethe.run AS r USING (run_id)
      JOIN lethe.chunk AS n ON n.type = c.type AND n.first_id <= c.last_id AND n.last_id >= c.first_id
      JOIN lethe.job AS nj ON nj.chunk_id = n.chunk_id AND nj.result_sha256 IS NOT NULL
      JOIN lethe.run AS nr ON nr.run_id = n.run_id
      WHERE j.job_id = $1 AND nj.asked_at > j.asked_at AND n.state IN ('collected', 'applied')
      """
    try await lockAnswers(of: chunk, on: transaction)
    let isThere = try await transaction.query(
      "SELECT EXISTS (\(newer))", .integer(jobID)
    ).onlyRow(as: Bool.self)
    guard isThere else { return }
    try await transaction.execute(
      """
      WITH newer AS MATERIALIZED (\(newer))
      UPDATE lethe.collected AS s
      SET superseded_by = (
        SELECT max(job_id) FROM newer AS n WHERE s.id BETWEEN n.first_id AND n.last_id)
      WHERE s.chunk_id = $2 AND s.superseded_by IS NULL AND s.changed IS NULL
        AND (EXISTS (SELECT FROM newer AS n
                     WHERE n.is_same AND s.id BETWEEN n.first_id AND n.last_id)
             OR EXISTS (SELECT FROM newer AS n JOIN lethe.collected AS o USING (chunk_id)
                        WHERE o.id = s.id AND (n.is_same_dataset OR o.reason <> s.reason))
             OR EXISTS (SELECT FROM newer AS n JOIN lethe.event AS e USING (chunk_id)
                        WHERE e.id = s.id AND e.cause_id IS NULL
                          AND (n.is_same_dataset OR e.reason <> s.reason)))
      """, .integer(jobID), .integer(chunk.id))
  }
}
