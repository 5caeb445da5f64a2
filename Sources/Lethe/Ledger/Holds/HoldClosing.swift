package import Definitions
package import PostgreSQL
package import Vocabulary

/// Ends the holds of the holders in `lethe_ending`, which are released.
package struct HoldClosing: Sendable {
  private let transaction: Transaction
  /// The type of the IDs that are released.
  private let type: JobType

  package init(transaction: Transaction, type: JobType) {
    self.transaction = transaction
    self.type = type
  }

  /// The tables of the holds in `lethe_ending`.
  package static func tablesEnding(on transaction: Transaction) async throws -> [TableName] {
    try await transaction.query("SELECT DISTINCT table_name FROM lethe_ending")
      .rows(as: String.self).compactMap { TableName($0) }
  }

  /// Decides which columns of each hold are restored: those that no other ID holds.
  package func findRestorableColumns() async throws {
    try await transaction.execute(Self.restorableColumns(type))
  }

  /// The statement of `findRestorableColumns`.
  package static func restorableColumns(_ type: JobType) -> SQL {
    """
    INSERT INTO lethe_due (hold_id, table_name, key, id, reason, held, columns)
    SELECT hold_id, table_name, key, id, reason, held, columns
    FROM (
      SELECT h.hold_id, h.table_name, e.id, e.reason,
             ARRAY (SELECT k FROM jsonb_object_keys(h.row_key) AS k ORDER BY k) AS key,
             ARRAY (SELECT c FROM jsonb_object_keys(h.set_to) AS c ORDER BY c) AS held,
             ARRAY (SELECT c FROM jsonb_object_keys(h.set_to) AS c
                    WHERE NOT EXISTS (
                      SELECT FROM lethe.holder AS o
                      WHERE o.hold_id = h.hold_id AND c = ANY (o.columns)
                        AND NOT (o.type = \(type.rawValue)::lethe.job_type
                                 AND o.id IN (SELECT x.id FROM lethe_ending AS x
                                              WHERE x.hold_id = h.hold_id)))
                    ORDER BY c) AS columns
      FROM (SELECT DISTINCT ON (hold_id) hold_id, id, reason FROM lethe_ending
            ORDER BY hold_id, id) AS e
      JOIN lethe.hold AS h USING (hold_id)
    ) AS restorable
    """
  }

  /// Ends a hold if its last columns are restored or forgotten, if its row is missing, or if another program has
  /// changed the row. A holder stays if the outcome of its hold is `waits`.
  package func end(jobID: Int64?) async throws {
    for statement in Self.endings(type, jobID: jobID) { try await transaction.execute(statement) }
  }

  /// The statements of `end`.
  package static func endings(_ type: JobType, jobID: Int64?) -> [SQL] {
    let type = type.rawValue
    return [
      """
      WITH closed AS (
        DELETE FROM lethe.hold AS h USING lethe_due AS d
        WHERE h.hold_id = d.hold_id
          AND (d.outcome IN ('gone', 'changed') OR d.outcome IN ('restored', 'forgotten') AND d.columns @> d.held)
        RETURNING h.*, d.id, d.outcome
      )
      INSERT INTO lethe.closed_hold
        (hold_id, table_name, row_key, row_type, row_id, held_at, outcome, type, id, job_id)
      SELECT hold_id, table_name, row_key, row_type, row_id, held_at, outcome,
             \(type)::lethe.job_type, id, \(jobID)::bigint
      FROM closed
      """,
      """
      UPDATE lethe.hold AS h SET former = h.former - d.columns, set_to = h.set_to - d.columns
      FROM lethe_due AS d
      WHERE d.hold_id = h.hold_id AND d.outcome IN ('restored', 'forgotten') AND NOT d.columns @> d.held
      """,
      """
      DELETE FROM lethe.holder AS r USING lethe_ending AS e JOIN lethe_due AS d USING (hold_id)
      WHERE r.hold_id = e.hold_id AND r.type = \(type)::lethe.job_type AND r.id = e.id
        AND d.outcome <> 'waits'
      """,
    ]
  }
}
