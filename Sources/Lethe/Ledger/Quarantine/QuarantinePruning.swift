import PostgreSQL
import Vocabulary

extension QuarantineLedger {
  /// What a prune of the quarantine deleted, or would delete.
  public struct Pruning: Sendable, Equatable {
    public let lines: Int
    /// The total size of the lines.
    public let bytes: Int
    /// The number of the chain's record about the deletion. Nil if no line was deleted.
    public let sealNumber: Int64?
  }

  /// Deletes lines that were resolved longer ago than `age`, because they contain bytes that the API sent.
  /// Open lines stay at any age. The transaction that deletes lines also adds a record to the chain of evidence.
  ///
  /// - Parameter isDryRun: whether to change nothing and only report what would be deleted.
  public func prune(resolvedBefore age: RecordAge, isDryRun: Bool) async throws -> Pruning {
    return try await connection.withTransaction { transaction in
      try await transaction.execute("SET LOCAL lock_timeout = 5000")
      let verb: SQL = isDryRun ? "SELECT * FROM" : "DELETE FROM"
      let (lines, bytes, before) = try await transaction.query(
        """
        WITH moment AS (SELECT \(age.cutoff) AS at), old AS (
          \(verb) lethe.quarantine
          WHERE resolved_at IS NOT NULL AND resolved_at < (SELECT at FROM moment)
          \(isDryRun ? "" as SQL : "RETURNING *")
        )
        SELECT (SELECT count(*) FROM old), (SELECT coalesce(sum(octet_length(raw)), 0)::bigint FROM old),
               \(SQL.utc("at", .microseconds)) FROM moment
        """
      ).onlyRow(as: Int.self, Int.self, String.self)
      guard lines > 0, !isDryRun else {
        return Pruning(lines: lines, bytes: bytes, sealNumber: nil)
      }
      let seal = try await transaction.query(
        """
        SELECT lethe.seal('prune', NULL, NULL, pg_catalog.jsonb_build_object(
          'quarantine_lines', \(lines)::bigint, 'resolved_before', \(before)::text)::text)
        """
      ).onlyRow(as: Int64.self)
      return Pruning(lines: lines, bytes: bytes, sealNumber: seal)
    }
  }
}
