public import Definitions
import Ledger
public import PostgreSQL
public import Vocabulary
public import Warehouse

/// Ends holds because an operator asked for it: `lethe holds release`.
public struct OperatorRelease: Sendable {
  private let connection: Connection
  private let catalog: Catalog
  private let definition: Definition

  /// The IDs to release, and who ordered the release.
  public struct Order: Sendable {
    public let type: JobType
    public let ids: [Int64]
    /// Whether the rows stay hidden permanently.
    public let keepsHidden: Bool
    public let by: String
    public let note: String

    public init(type: JobType, ids: [Int64], keepsHidden: Bool, by: String, note: String) {
      self.type = type
      self.ids = ids
      self.keepsHidden = keepsHidden
      self.by = by
      self.note = note
    }
  }

  /// The number of rows or IDs for each outcome.
  public struct Outcome: Sendable, Equatable, Codable {
    /// Rows that have their former values again.
    public var restored = 0
    /// Rows that other IDs also hold.
    public var held = 0
    /// Rows that another writer has changed in the meantime. They are not restored, and their holds end.
    public var changed = 0
    /// Rows that no longer exist.
    public var gone = 0
    /// Rows that stay hidden permanently. Their holds lose the columns that no other ID holds, and end if no column is
    /// left.
    public var keptHidden = 0
    /// Rows that stay hidden for now, because an ID hides them through a protection without a hold, or because it is
    /// unknown whether they still exist.
    public var waits = 0
    /// Protections without holds that were removed. An ID has one for each pipeline and dataset that protected it.
    public var protections = 0

    public init() {}

    private enum CodingKeys: String, CodingKey {
      case restored = "opened"
      case held, changed, gone
      case keptHidden = "forgotten"
      case waits, protections
    }
  }

  public init(connection: Connection, catalog: Catalog, definition: Definition) {
    self.connection = connection
    self.catalog = catalog
    self.definition = definition
  }

  public enum Report: Sendable {
    case done(Outcome)
    /// More rows would be restored than `max_restored_rows` allows. Nothing was changed.
    case stopped(reason: String, remedy: String)
  }

  private struct RolledBack: Error {
    let report: Report
  }

  /// - Parameter isDryRun: reports what would be done and changes nothing.
  public func run(_ order: Order, isDryRun: Bool) async throws -> Report {
    do {
      return try await connection.withTransaction { transaction in
        let outcome = try await release(order, transaction)
        if isDryRun { throw RolledBack(report: .done(outcome)) }
        try await HoldLedger(connection: connection)
          .seal(release: order.sealed(outcome), on: transaction)
        return .done(outcome)
      }
    } catch let rolledBack as RolledBack {
      return rolledBack.report
    }
  }

  private func release(_ order: Order, _ transaction: Transaction) async throws -> Outcome {
    try await transaction.runScript(ScratchTables.ofReleases)
    let restoration = RowRestoration(
      transaction: transaction, catalog: catalog, type: order.type, versions: nil,
      protections: try ProtectionPath.all(of: definition, catalog: catalog), chunk: nil)
    try await lockTables(of: order, transaction)
    try await lock(order, transaction)
    try await restoration.findRestorableColumns()
    if order.keepsHidden {
      try await transaction.execute(
        "UPDATE lethe_due SET outcome = CASE WHEN columns = '{}' THEN 'held' ELSE 'forgotten' END")
    } else {
      try await restoration.restoreRows()
    }
    var outcome = try await counted(transaction)
    if outcome.restored > definition.limits.maxRestoredRows {
      throw RolledBack(
        report: .stopped(
          reason: """
            it would restore \(outcome.restored) rows; max_restored_rows is \(definition.limits.maxRestoredRows)
            """,
          remedy:
            "release fewer IDs at a time, or raise limits.max_restored_rows; nothing was changed"))
    }
    try await restoration.endHolds(jobID: nil)
    if order.keepsHidden {
      outcome.protections = try await HoldLedger(connection: connection)
        .forgetProtections(type: order.type, ids: order.ids, on: transaction)
    }
    return outcome
  }

  /// Waits for batches over the tables of the holds. Such a batch may add a hold of another table.
  private func lockTables(of order: Order, _ transaction: Transaction) async throws {
    var locked: Set<TableName> = []
    while true {
      let tables = Set(try await tables(of: order, transaction))
      if tables.isSubset(of: locked) { break }
      try await RowLock.take(tables, on: transaction, transaction.timeouts)
      locked.formUnion(tables)
    }
  }

  private func tables(of order: Order, _ transaction: Transaction) async throws -> [TableName] {
    try await transaction.query(
      """
      SELECT DISTINCT h.table_name FROM lethe.holder AS r JOIN lethe.hold AS h USING (hold_id)
      WHERE r.type = \(order.type.rawValue)::lethe.job_type AND r.id = ANY (\(order.ids)::bigint[])
      """
    ).rows(as: String.self).compactMap { TableName($0) }
  }

  private func lock(_ order: Order, _ transaction: Transaction) async throws {
    try await transaction.execute(
      """
      WITH ending AS MATERIALIZED (
        SELECT r.hold_id, r.id FROM lethe.holder AS r
        WHERE r.type = \(order.type.rawValue)::lethe.job_type AND r.id = ANY (\(order.ids)::bigint[])
      ), locked AS MATERIALIZED (
        SELECT h.hold_id, h.table_name FROM lethe.hold AS h
        WHERE h.hold_id IN (SELECT hold_id FROM ending) ORDER BY h.hold_id FOR UPDATE
      )
      INSERT INTO lethe_ending (hold_id, id, reason, table_name)
      SELECT hold_id, id, 'clean', table_name FROM ending JOIN locked USING (hold_id)
      """)
  }

  private func counted(_ transaction: Transaction) async throws -> Outcome {
    var outcome = Outcome()
    let counts = try await transaction.query(
      "SELECT outcome, count(*) FROM lethe_due GROUP BY outcome"
    ).rows(as: String.self, Int.self)
    for (word, count) in counts {
      switch word {
      case "restored": outcome.restored = count
      case "held": outcome.held = count
      case "changed": outcome.changed = count
      case "gone": outcome.gone = count
      case "forgotten": outcome.keptHidden = count
      default: outcome.waits += count
      }
    }
    return outcome
  }
}

extension OperatorRelease.Order {
  fileprivate func sealed(_ outcome: OperatorRelease.Outcome) -> HoldLedger.SealedRelease {
    HoldLedger.SealedRelease(
      type: type, ids: ids, keepsHidden: keepsHidden, by: by, note: note,
      restored: outcome.restored, forgotten: outcome.keptHidden + outcome.protections)
  }
}
