public import Definitions
public import PostgreSQL
import Vocabulary

/// Finds and withdraws tombstones of the wrong type. They were created from rows with IDs of another type.
///
/// A tombstone is proven wrong if an event record of the same job, ID and time shows that it was created from a row
/// whose ID has another type, and no other record shows that the ID was deleted. The event records stay, because they
/// are evidence of what was done.
public struct TombstoneRepair: Sendable {
  let connection: Connection

  public init(connection: Connection) {
    self.connection = connection
  }

  /// The tombstones that were found, counted by the table of the rows from which they were created.
  public struct Findings: Sendable, Equatable {
    /// Tombstones that are proven wrong.
    public internal(set) var wrong: [String: Int] = [:]
    /// Tombstones that cannot be judged, because the current definition gives their rows no type or several types.
    public internal(set) var undecided: [String: Int] = [:]
    /// Tombstones that stay, because another record shows that the ID was deleted.
    public internal(set) var justified: [String: Int] = [:]
    /// Runs whose definition cannot be read. Their tombstones are not examined.
    public internal(set) var unreadableRuns = 0
    /// Other tombstones of the same runs and datasets. They might be wrong, too, but this cannot be checked, because
    /// their event records were pruned. Only `repair` counts them.
    public internal(set) var unprovable = 0
    /// The number of the chain's record about the withdrawal. Nil if nothing was withdrawn.
    public internal(set) var sealNumber: Int64?

    public var tombstones: Int { wrong.values.reduce(0, +) }
  }

  /// Finds the tombstones and changes nothing.
  public func findings(_ definition: Definition) async throws -> Findings {
    try await connection.withTransaction(isolationLevel: .repeatableRead, readOnly: true) {
      let targets = try await WrongTypeTargets(of: definition, on: $0)
      return try await Self.counted(targets, Self.found, on: $0)
    }
  }

  /// Withdraws the tombstones that are proven wrong, in one transaction with a record in the chain of
  /// evidence.
  /// - Parameter isDryRun: whether to change nothing and only report what would be withdrawn.
  public func repair(
    _ definition: Definition, by operator: String, note: String?, isDryRun: Bool
  ) async throws -> Findings {
    try await connection.withTransaction { transaction in
      let targets = try await WrongTypeTargets(of: definition, on: transaction)
      guard !targets.suspects.isEmpty else {
        return try await Self.counted(targets, Self.found, on: transaction)
      }
      _ = try await transaction.run(
        """
        CREATE TEMPORARY TABLE lethe_found ON COMMIT DROP AS
        WITH \(targets.cte), \(Self.found) SELECT * FROM found
        """)
      var findings = try await Self.counted(
        targets, "found AS (SELECT * FROM lethe_found)", on: transaction)
      findings.unprovable = try await Self.unprovable(targets, on: transaction)
      guard !isDryRun, findings.tombstones > 0 else { return findings }
      findings.wrong = try await Self.withdraw(targets, on: transaction)
      guard findings.tombstones > 0 else { return findings }
      findings.sealNumber = try await Self.seal(
        definition, by: `operator`, note: note, on: transaction)
      return findings
    }
  }

  // MARK: Wrong tombstones

  /// `found`: two CTEs over `suspect` that return the tombstones that were created from suspect rows, each
  /// with a verdict.
  private static let found: SQL = """
    made AS MATERIALIZED (
      SELECT e.type, e.id, e.job_id, e.applied_at, min(s.table_name) AS table_name
      FROM suspect AS s
      JOIN lethe.chunk AS c ON c.run_id = s.run_id AND c.dataset = s.dataset
      JOIN lethe.event AS e ON e.chunk_id = c.chunk_id
      WHERE e.cause_id IS NOT NULL AND e.type = s.type AND e.changed ? s.label
        AND EXISTS (SELECT FROM lethe.change AS h
                    WHERE h.chunk_id = c.chunk_id AND h.table_name = s.table_name)
      GROUP BY e.type, e.id, e.job_id, e.applied_at
    ), found AS (
      SELECT t.type, t.id, t.reason, t.job_id, t.deleted_at, m.table_name,
             \(verdict("t")) AS verdict
      FROM made AS m
      JOIN lethe.tombstone AS t ON t.type = m.type AND t.id = m.id AND t.job_id = m.job_id
        AND t.deleted_at = m.applied_at
    )
    """

  /// The verdict on a tombstone, from all records that show that its ID was deleted.
  private static func verdict(_ tombstone: SQL) -> SQL {
    """
    (SELECT CASE WHEN bool_or(d.is_wrong IS NULL) THEN 'justified'
                 WHEN bool_and(d.is_wrong) THEN 'wrong' ELSE 'undecided' END
     FROM (
       SELECT CASE WHEN e.cause_id IS NOT NULL THEN
                (SELECT bool_and(s.is_wrong) FROM lethe.chunk AS c
                 JOIN suspect AS s ON s.run_id = c.run_id AND s.dataset = c.dataset
                 WHERE c.chunk_id = e.chunk_id AND s.type = e.type AND e.changed ? s.label)
              END AS is_wrong
       FROM lethe.event AS e
       WHERE e.id = \(tombstone).id AND e.type = \(tombstone).type
         AND e.action IN ('delete', 'redact') AND e.superseded_by IS NULL
       UNION ALL
       SELECT NULL FROM lethe.trace AS r
       WHERE r.type = \(tombstone).type AND r.action IN ('delete', 'redact')
         AND \(PastEvents.contains("\(tombstone).id", trace: "r"))
     ) AS d)
    """
  }

  /// - Parameter found: the CTE with the tombstones.
  private static func counted(
    _ targets: WrongTypeTargets, _ found: SQL, on session: some Session
  ) async throws -> Findings {
    var findings = Findings()
    findings.unreadableRuns = targets.unreadableRuns
    guard !targets.suspects.isEmpty else { return findings }
    let rows = try await session.run(
      """
      WITH \(targets.cte), \(found)
      SELECT table_name, verdict, count(*) FROM found GROUP BY table_name, verdict
      """
    ).rows(as: String.self, String.self, Int.self)
    for (table, verdict, count) in rows {
      switch verdict {
      case "wrong": findings.wrong[table] = count
      case "undecided": findings.undecided[table] = count
      default: findings.justified[table] = count
      }
    }
    return findings
  }

  /// The number of tombstones that the same runs and datasets created, and that might be wrong, but have no record of
  /// their ID any more.
  private static func unprovable(
    _ targets: WrongTypeTargets, on session: some Session
  ) async throws -> Int {
    let prunedThrough = try await session.query("SELECT \(PastEvents.prunedThrough)")
      .onlyRow(as: String?.self)
    guard prunedThrough != nil else { return 0 }
    return try await session.run(
      """
      WITH \(targets.cte)
      SELECT count(*) FROM lethe.tombstone AS t
      WHERE EXISTS (SELECT FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id)
                    JOIN suspect AS s ON s.run_id = c.run_id AND s.dataset = c.dataset
                    WHERE j.job_id = t.job_id AND s.type = t.type AND s.is_wrong)
        AND NOT EXISTS (SELECT FROM lethe.event AS e WHERE e.id = t.id AND e.type = t.type)
        AND NOT EXISTS (SELECT FROM lethe.trace AS r
                        WHERE r.type = t.type AND \(PastEvents.contains("t.id", trace: "r")))
      """
    ).onlyRow(as: Int.self)
  }

  // MARK: Withdrawal

  /// - Returns: how many tombstones were withdrawn, by table.
  private static func withdraw(
    _ targets: WrongTypeTargets, on transaction: Transaction
  ) async throws -> [String: Int] {
    // A concurrent batch would find the tombstone and write none of its own. So the batch has to wait for
    // this lock, and the verdict is checked again for everything that was committed before the lock.
    try await transaction.execute(
      "SET LOCAL lock_timeout = \(literal: transaction.timeouts.lockTimeout)")
    try await transaction.execute("LOCK TABLE lethe.tombstone IN SHARE ROW EXCLUSIVE MODE")
    _ = try await transaction.run(
      """
      CREATE TEMPORARY TABLE lethe_withdrawn ON COMMIT DROP AS
      WITH \(targets.cte)
      SELECT f.type, f.id, f.reason, f.job_id, f.deleted_at, f.table_name FROM lethe_found AS f
      WHERE f.verdict = 'wrong' AND \(verdict("f")) = 'wrong'
      """)
    try await transaction.execute(
      """
      DELETE FROM lethe_withdrawn AS w WHERE NOT EXISTS (
        SELECT FROM lethe.tombstone AS t
        WHERE t.type = w.type AND t.id = w.id AND t.job_id = w.job_id
          AND t.deleted_at = w.deleted_at)
      """)
    try await transaction.execute(
      """
      DELETE FROM lethe.tombstone AS t USING lethe_withdrawn AS w
      WHERE t.type = w.type AND t.id = w.id
      """)
    let rows = try await transaction.query(
      "SELECT table_name, count(*) FROM lethe_withdrawn GROUP BY table_name"
    ).rows(as: String.self, Int.self)
    return Dictionary(uniqueKeysWithValues: rows.map { ($0.0, $0.1) })
  }

  private static func seal(
    _ definition: Definition, by operator: String, note: String?, on transaction: Transaction
  ) async throws -> Int64 {
    // The lock prevents other processes from adding a record. So `number` is the number of the record that is added
    // below.
    try await transaction.execute("LOCK TABLE lethe.seal IN EXCLUSIVE MODE")
    let number = try await transaction.query("SELECT coalesce(max(number), 0) + 1 FROM lethe.seal")
      .onlyRow(as: Int64.self)
    try await transaction.execute(
      """
      INSERT INTO lethe.withdrawn_tombstone
        (seal, type, id, reason, job_id, deleted_at, table_name)
      SELECT \(number), type, id, reason, job_id, deleted_at, table_name FROM lethe_withdrawn
      """)
    return try await transaction.query(
      """
      SELECT lethe.seal('repair', NULL, NULL, pg_catalog.jsonb_build_object(
        'pipeline', \(definition.name)::text, 'by', \(prose: `operator`)::text, 'note',
          \(prose: note)::text, 'tombstones', d.tombstones,
        'sha256', encode(d.sha256, 'hex'))::text)
      FROM lethe.withdrawal_digest(\(number)) AS d
      """
    ).onlyRow(as: Int64.self)
  }
}
