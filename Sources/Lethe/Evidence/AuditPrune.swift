import Foundation
public import Ledger
import PostgreSQL
import Vocabulary

/// The partitions that a prune deleted, or would delete.
public struct AuditPruning: Sendable {
  /// A month's event records.
  public struct Partition: Sendable {
    public let name: String
    public let from: String
    /// The end of the month. All records of the month are older.
    public let to: String
    /// The number of the month's event records and traced events.
    public let events: Int
  }

  public let partitions: [Partition]
  /// The number of the prune's record in the chain. Nil if nothing was deleted.
  public let sealNumber: Int64?

  /// The time before which no event record remains, or would remain. Nil if no partition is old enough.
  public var through: String? { partitions.map(\.to).max() }
  public var events: Int { partitions.reduce(0) { $0 + $1.events } }
}

extension AuditLedger {
  /// Drops the partitions of months in which all event records are older than `age`, but never the current month. It
  /// also deletes the traces of these months. The same transaction seals a record of what is dropped.
  ///
  /// - Parameter isDryRun: whether to change nothing and only report what would be dropped.
  /// - Throws: `LedgerError` (`.refused`) if the partitions have another owner, or contain records of a chunk
  ///   that is still being applied. `PostgreSQLError` (temporary) if the partitions are in use.
  public func prune(olderThan age: RecordAge, isDryRun: Bool = false) async throws -> AuditPruning {
    try await connection.withTransaction { transaction in
      // To drop a partition, PostgreSQL locks the parent table until the transaction ends. While this transaction waits
      // for the lock, all new readers of the parent table wait, too. So the lock timeout is short.
      try await transaction.execute("SET LOCAL lock_timeout = 5000")
      let old = try await Self.partitions(olderThan: age, transaction)
      guard let end = old.map(\.to).max() else {
        return AuditPruning(partitions: [], sealNumber: nil)
      }
      try await Self.requireApplied(before: end, transaction)
      if !isDryRun { try await Self.requireOwner(transaction) }
      var counted: [AuditPruning.Partition] = []
      for partition in old {
        let table: SQL = "lethe.\(identifier: partition.name)"
        if !isDryRun { try await transaction.execute("LOCK TABLE \(table) IN SHARE MODE") }
        let events = try await transaction.query(
          """
          SELECT (SELECT count(*) FROM \(table))
               + (SELECT coalesce(sum(events), 0)::bigint FROM lethe.trace
                  WHERE applied_at >= \(partition.from)::timestamptz
                    AND applied_at < \(partition.to)::timestamptz)
          """
        ).onlyRow(as: Int.self)
        counted.append(
          .init(name: partition.name, from: partition.from, to: partition.to, events: events))
      }
      guard !isDryRun else { return AuditPruning(partitions: counted, sealNumber: nil) }
      for partition in counted {
        try await transaction.execute("DROP TABLE lethe.\(identifier: partition.name)")
      }
      try await transaction.execute(
        "DELETE FROM lethe.trace WHERE applied_at < \(end)::timestamptz")
      let pruning = AuditPruning(partitions: counted, sealNumber: nil)
      return AuditPruning(
        partitions: counted, sealNumber: try await Self.seal(pruning, end, transaction))
    }
  }

  private static func partitions(
    olderThan age: RecordAge, _ transaction: Transaction
  ) async throws -> [(name: String, from: String, to: String)] {
    return try await transaction.query(
      """
      SELECT name, \(utc("first")), \(utc("last"))
      FROM (
        SELECT c.relname AS name,
               substring(pg_get_expr(c.relpartbound, c.oid) FROM $$FROM \\('([^']+)'\\)$$)::timestamptz AS first,
               substring(pg_get_expr(c.relpartbound, c.oid) FROM $$TO \\('([^']+)'\\)$$)::timestamptz AS last
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'lethe.event'::regclass
      ) AS partition
      WHERE last <= least(\(age.cutoff), date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')
      ORDER BY last
      """
    ).rows(as: String.self, String.self, String.self).map { (name: $0.0, from: $0.1, to: $0.2) }
  }

  /// Checks that no chunk with records in the period is still being applied. Such a chunk gets its record in the chain
  /// only when it is completely applied, set aside or given up, so its event records must stay until then.
  private static func requireApplied(
    before end: String, _ transaction: Transaction
  ) async throws {
    let open = try await transaction.query(
      """
      SELECT DISTINCT c.chunk_id, r.pipeline
      FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id) JOIN lethe.batch AS b USING (chunk_id)
      WHERE c.state = \(state: .collected) AND b.applied_at < \(end)::timestamptz
      ORDER BY c.chunk_id
      """
    ).rows(as: Int64.self, String.self)
    guard !open.isEmpty else { return }
    let chunks = open.map { "chunk \($0.0) of the pipeline \($0.1)" }.joined(separator: ", ")
    throw LedgerError(
      code: .refused,
      message: """
        nothing was dropped: events were applied before \(end), but their chunks are not completely applied: \(chunks)
        """,
      remedy: """
        run lethe run of each of these pipelines to finish its chunks, or lethe run --give-up to end its runs; then \
        prune again
        """
    )
  }

  private static func requireOwner(_ transaction: Transaction) async throws {
    let (owner, user, isOwner) = try await transaction.query(
      """
      SELECT pg_get_userbyid(relowner), current_user::text, pg_has_role(relowner, 'USAGE')
      FROM pg_class WHERE oid = 'lethe.event'::regclass
      """
    ).onlyRow(as: String.self, String.self, Bool.self)
    guard isOwner else {
      throw LedgerError(
        code: .refused,
        message:
          "nothing was dropped: lethe.event belongs to \(owner), but the current user is \(user)",
        remedy:
          "run lethe audit prune as the user who runs the migrations, \(owner)")
    }
  }

  private static func seal(
    _ pruning: AuditPruning, _ end: String, _ transaction: Transaction
  ) async throws -> Int64 {
    try await transaction.query(
      """
      SELECT lethe.seal('prune', NULL, NULL, pg_catalog.jsonb_build_object(
        'through', \(end)::text, 'partitions',
          pg_catalog.to_jsonb(\(pruning.partitions.map(\.name))::text[]), 'events',
          \(pruning.events)::bigint)::text)
      """
    ).onlyRow(as: Int64.self)
  }
}
