import Definitions
import Foundation
import Ledger
import PostgreSQL
import Vocabulary

/// Whether a chunk may redact what it would: the blast radius. Asked before a row is touched.
struct LimitCheck {
  let connection: Connection
  let ledger: ChunkLedger
  let limits: RedactionLimits

  /// - Returns: why the chunk has to stop; nil if it may go on.
  func reasonToStop(
    _ chunk: Chunk, dataset: Dataset, changes: [Change]
  ) async throws -> String? {
    let redacting = dataset.actions.filter(\.value.isRedacting).keys.map(\.rawValue)
    // What was protected before comes back every night, and is no news.
    let protecting = dataset.actions.filter { $0.value.word == "protect" }.keys.map(\.rawValue)
    let ids = try await connection.query(
      """
      SELECT count(*) FROM lethe.collected AS s
      WHERE chunk_id = $1 AND reason = ANY ($2::lethe.reason[])
        AND NOT (reason = ANY ($3::lethe.reason[]) AND EXISTS (
          SELECT FROM lethe.protection AS p
          WHERE p.pipeline = $4 AND p.dataset = $5 AND p.id = s.id))
      """, .integer(chunk.id), .texts(redacting), .texts(protecting), .text(chunk.pipeline),
      .text(dataset.name)
    ).onlyRow(as: Int.self)
    let percent = 100 * Double(ids) / Double(chunk.ids)
    if percent > limits.maxRedactedPercent {
      return """
        it would redact \(ids) of its \(chunk.ids) IDs, \(String(format: "%.1f", percent)) %; \
        max_redacted_percent is \(limits.maxRedactedPercent.formatted())
        """
    }
    let range = EventRange(chunkID: chunk.id, after: chunk.firstID - 1, through: chunk.lastID)
    var rows = try await ledger.rowsRedactedUnasked(in: chunk.runID)
    for change in changes where change.isRedacting {
      let count = change.count(for: range)
      rows += try await connection.run(count.sql, count.parameters).onlyRow(as: Int.self)
    }
    if rows > limits.maxRedactedRows {
      return """
        with it the run would redact \(rows) rows; max_redacted_rows is \(limits.maxRedactedRows)
        """
    }
    return nil
  }
}
