package import Definitions
package import PostgreSQL

/// A lock for the transactions that change rows of a warehouse table and their holds. One transaction has it at a time.
///
/// A statement sees the holds of its snapshot, but changes rows as they are after it has waited for their locks.
/// Without this lock, two transactions on one row could therefore record a hidden value as a former value, leave the
/// hold of a deleted row, or restore a row that the other one has hidden. Pipelines over other tables do not wait.
package enum RowLock {
  /// Waits for the locks of all tables, and keeps them until the transaction ends. The next statement sees everything
  /// that earlier transactions with these locks have committed. Sets the lock timeout and the statement timeout of the
  /// transaction to `timeouts`.
  ///
  /// The wait has no timeout, because another pipeline's batch may take long. The server ends the session of a process
  /// that was stopped.
  ///
  /// Call it before the transaction locks anything else.
  package static func take(
    _ tables: some Sequence<TableName>, on session: some Session, _ timeouts: SessionTimeouts
  ) async throws {
    let names = Set(tables.map(\.quoted)).sorted().map { "\(literal: $0)" as SQL }
    // A partition and its parent have the same rows, so the topmost parents are locked. Each call locks them in the
    // same order.
    try await session.runScript(
      """
      SET LOCAL lock_timeout = 0;
      SET LOCAL statement_timeout = 0;
      WITH RECURSIVE up (oid) AS (
        SELECT to_regclass(name)::oid FROM pg_catalog.unnest(ARRAY[\(names.joined(separator: ", "))]::text[]) AS name
        UNION
        SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = up.oid
      )
      SELECT pg_advisory_xact_lock(hashtext('lethe.rows'), s.number)
      FROM (SELECT DISTINCT hashtext(oid::text) AS number FROM up
            WHERE oid IS NOT NULL
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = up.oid)
            ORDER BY 1) AS s;
      SET LOCAL lock_timeout = \(literal: timeouts.lockTimeout);
      SET LOCAL statement_timeout = \(literal: timeouts.statementTimeout)
      """)
  }
}
