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

  /// The number of holds for each outcome.
  public struct Outcome: Sendable, Equatable, Codable {
    /// Rows that have their former values again.
    public var opened = 0
    /// Rows that other IDs also hold.
    public var held = 0
    /// Rows that another writer has changed in the meantime. They stay unchanged.
    public var changed = 0
    /// Rows that no longer exist.
    public var gone = 0
    /// Rows that stay hidden and no longer have a hold.
    public var forgotten = 0
    /// Rows that an ID hides through a protection without a hold.
    public var waits = 0
    /// IDs whose protections without holds were removed.
    public var protections = 0

    public init() {}
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
        try await transaction.execute(
          "SET LOCAL lock_timeout = \(literal: transaction.timeouts.lockTimeout)")
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
    let holds = HoldEnding(
      transaction: transaction, catalog: catalog, type: order.type, versions: nil,
      protections: try ProtectionPath.all(of: definition, catalog: catalog), chunk: nil)
    try await lock(order, transaction)
    try await holds.findRestorableColumns()
    if order.keepsHidden {
      try await transaction.execute(
        "UPDATE lethe_due SET outcome = CASE WHEN columns = '{}' THEN 'held' ELSE 'forgotten' END")
    } else {
      try await holds.open()
    }
    var outcome = try await counted(transaction)
    if outcome.opened > definition.limits.maxRestoredRows {
      throw RolledBack(
        report: .stopped(
          reason: """
            it would restore \(outcome.opened) rows; max_restored_rows is \(definition.limits.maxRestoredRows)
            """,
          remedy:
            "release fewer IDs at a time, or raise limits.max_restored_rows; nothing was changed"))
    }
    try await holds.end(jobID: nil)
    if order.keepsHidden {
      outcome.protections = try await HoldLedger(connection: connection)
        .forgetProtections(type: order.type, ids: order.ids, on: transaction)
    }
    return outcome
  }

  private func lock(_ order: Order, _ transaction: Transaction) async throws {
    try await transaction.execute(
      """
      WITH ending AS MATERIALIZED (
        SELECT r.hold_id, r.id FROM lethe.holder AS r
        WHERE r.type = \(order.type.rawValue)::lethe.job_type AND r.id = ANY (\(order.ids)::bigint[])
      ), locked AS MATERIALIZED (
        SELECT h.hold_id FROM lethe.hold AS h
        WHERE h.hold_id IN (SELECT hold_id FROM ending) ORDER BY h.hold_id FOR UPDATE
      )
      INSERT INTO lethe_ending (hold_id, id, reason)
      SELECT hold_id, id, 'clean' FROM ending JOIN locked USING (hold_id)
      """)
  }

  private func counted(_ transaction: Transaction) async throws -> Outcome {
    var outcome = Outcome()
    let counts = try await transaction.query(
      "SELECT outcome, count(*) FROM lethe_due GROUP BY outcome"
    ).rows(as: String.self, Int.self)
    for (word, count) in counts {
      switch word {
      case "opened": outcome.opened = count
      case "held": outcome.held = count
      case "changed": outcome.changed = count
      case "gone": outcome.gone = count
      case "forgotten": outcome.forgotten = count
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
      opened: outcome.opened, forgotten: outcome.forgotten + outcome.protections)
  }
}
