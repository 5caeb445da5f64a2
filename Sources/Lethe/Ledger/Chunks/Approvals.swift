import Foundation
import PostgreSQL
import Vocabulary

/// Records an operator's approval of a chunk that a limit has stopped. The approval is stored with the chunk and
/// sealed.
extension ChunkLedger {
  /// Approves a chunk.
  /// - Parameters:
  ///   - by: the operator's name.
  ///   - note: the reason.
  /// - Returns: false if the chunk is not stopped.
  public func approve(
    chunkID: Int64, runID: Int64, by: String, note: String?
  ) async throws -> Bool {
    try await connection.withTransaction { transaction in
      guard
        let why = try await transaction.query(
          """
          UPDATE lethe.chunk AS c SET approved_at = clock_timestamp(), stopped_reason = NULL
          FROM (SELECT chunk_id, stopped_reason FROM lethe.chunk
            WHERE chunk_id = \(chunkID) FOR UPDATE) AS o
          WHERE c.chunk_id = o.chunk_id AND c.run_id = \(runID) AND c.state = \(state: .collected)
            AND c.stopped_reason IS NOT NULL
          RETURNING o.stopped_reason
          """
        ).firstRow(as: String.self)
      else { return false }
      let id = try await transaction.query(
        """
        INSERT INTO lethe.approval (chunk_id, stopped_reason, approved_by, note)
        VALUES (\(chunkID), \(prose: why), \(prose: by), \(prose: note)) RETURNING approval_id
        """
      ).onlyRow(as: Int64.self)
      try await transaction.executeOne(
        """
        UPDATE lethe.approval
        SET seal_number = lethe.seal('approval', NULL, NULL, lethe.approval_content(approval_id))
        WHERE approval_id = \(id)
        """)
      return true
    }
  }

  /// The number of waiting events of a collected chunk, and how many of them are superseded by newer answers.
  public func waitingEvents(of chunk: Chunk) async throws -> (events: Int, superseded: Int) {
    try await connection.query(
      "SELECT count(*), count(superseded_by) FROM lethe.collected WHERE chunk_id = \(chunk.id)"
    ).onlyRow(as: Int.self, Int.self)
  }
}
