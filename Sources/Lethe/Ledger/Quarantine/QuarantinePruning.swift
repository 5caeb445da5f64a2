import PostgreSQL
import Vocabulary

extension QuarantineLedger {
  /// What a prune of the quarantine dropped, or would drop.
  public struct Pruning: Sendable, Equatable {
    public let lines: Int
    /// Of the lines' own bytes.
    public let bytes: Int
    /// The record of it in the chain; nil if nothing was dropped.
    public let sealNumber: Int64?
  }

  /// Drops lines that were resolved longer ago than `age`: their bytes are what the API sent. Open ones stay,
  /// however old. A record of it is added to the chain of evidence, in one transaction.
  ///
  /// - Parameter isDryRun: changes nothing and says what would be dropped.
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
