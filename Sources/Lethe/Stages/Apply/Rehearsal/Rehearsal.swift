public import Definitions
import Ledger
public import PostgreSQL
import Vocabulary
public import Warehouse

/// Tests each change of a definition on one row of each part of its table with apply's own statement, opens a
/// protected row again, and rolls everything back. So it finds what a trigger, a constraint or a privilege
/// forbids before a run does.
///
/// Rows are changed one by one. Rows to which rows of other tables refer are left out, and no lock wait is
/// longer than a second. Effects of triggers outside of the database stay, and sequences advance.
public struct Rehearsal: Sendable {
  let connection: Connection
  let catalog: Catalog
  let definition: Definition

  /// The result of a rehearsal.
  public struct Outcome: Sendable {
    /// What is refused, what is copied, and what was not rehearsed.
    public var findings: [Finding] = []
    /// The triggers that have copied rows, or probably have.
    public internal(set) var copying: Set<FiringTrigger> = []

    public init() {}
  }

  /// A change, and the triggers that fire for it.
  struct Rehearsed {
    let change: Change
    let plan: ApplyPlan
    let triggers: [FiringTrigger]
    var path: String { "\(change.target.path).\(change.target.isOwn ? "table" : "actions")" }
  }

  /// Rolls back a transaction after its effect was examined.
  private struct RolledBack: Error {
    let tally: RehearsalTally
  }

  /// The limit for parts of a table that are tried: for each one, the planner reads all of them.
  private static let partsMax = 12

  private static let lockTimeoutSeconds = 1
  static let statementTimeoutSeconds = 10

  public init(connection: Connection, catalog: Catalog, definition: Definition) {
    self.connection = connection
    self.catalog = catalog
    self.definition = definition
  }

  /// - Parameter announce: gets the triggers that will fire, before anything is tried.
  /// - Throws: `PostgreSQLError` if the server cannot be reached.
  public func run(announce: (String) -> Void) async throws -> Outcome {
    var rehearsed: [Rehearsed] = []
    for dataset in definition.datasets {
      let plan = try ApplyPlan(dataset, of: definition, catalog: catalog)
      for change in plan.children + plan.own {
        let triggers = try await catalog.triggers(
          of: change.target.table, setting: change.isDelete ? nil : change.kind.columnsSet,
          on: connection)
        rehearsed.append(Rehearsed(change: change, plan: plan, triggers: triggers))
      }
    }
    let firing = Set(rehearsed.flatMap(\.triggers).map(\.label)).sorted()
    if !firing.isEmpty {
      announce(
        """
        the rehearsal fires triggers, whose effects outside of the database stay: \
        \(firing.joined(separator: ", "))
        """)
    }
    var outcome = Outcome()
    for each in rehearsed {
      let tally = try await rehearse(each)
      outcome.copying.formUnion(tally.copying)
      for finding in tally.findings where !outcome.findings.contains(finding) {
        outcome.findings.append(finding)
      }
    }
    return outcome
  }

  private func rehearse(_ rehearsed: Rehearsed) async throws -> RehearsalTally {
    let parts = try await catalog.parts(of: rehearsed.change.target.table, on: connection)
    // Evenly from the first to the last: the newest months may be unusual, and so may the oldest.
    let places = min(parts.count, Self.partsMax)
    let tried = Set((0..<places).map { $0 * (parts.count - 1) / max(places - 1, 1) })
    var tally = RehearsalTally(
      rehearsed, parts: parts.count, targets: try await deletedBefore(rehearsed))
    for (index, part) in parts.enumerated() {
      if tried.contains(index) {
        tally = try await rehearse(rehearsed, on: part, tally)
      } else {
        tally.skipped(part, "\(Self.partsMax) of its parts are tried")
      }
    }
    return tally
  }

  /// In a transaction of its own, so that no lock is held for long.
  private func rehearse(
    _ rehearsed: Rehearsed, on part: TablePart, _ tally: RehearsalTally
  ) async throws -> RehearsalTally {
    do {
      return try await connection.withTransaction { transaction -> RehearsalTally in
        var tally = tally
        do {
          try await begin(rehearsed, transaction).rehearse(on: part, &tally)
        } catch let error as PostgreSQLError where error.state != nil {
          tally.refused(error, on: nil)
        }
        throw RolledBack(tally: tally)
      }
    } catch let rolledBack as RolledBack {
      return rolledBack.tally
    }
  }

  /// The tables from which the events of a change delete rows before it, and their parts.
  private func deletedBefore(_ rehearsed: Rehearsed) async throws -> Set<String> {
    var names: Set<String> = []
    for change in rehearsed.plan.children where change.isDelete {
      names.insert("\(change.target.table.resolvedName)")
      for part in try await catalog.parts(of: change.target.table, on: connection) {
        names.insert("\(part.name)")
      }
    }
    return names
  }

  private func begin(
    _ rehearsed: Rehearsed, _ transaction: Transaction
  ) async throws -> RehearsalStage {
    _ = try await transaction.query(
      """
      SELECT set_config('lock_timeout', \("\(Self.lockTimeoutSeconds)s"), true),
             set_config('statement_timeout', \("\(Self.statementTimeoutSeconds)s"), true),
             set_config('jit', 'off', true)
      """)
    try await transaction.runScript(ScratchTables.ofBatches)
    _ = try await transaction.query("SELECT lethe.ensure_event_partitions(now())")
    let (dataset, change) = (rehearsed.plan.dataset, rehearsed.change)
    let events = try await SyntheticEvents(
      dataset: dataset.name, of: definition.name, type: dataset.type, on: transaction)
    let (now, mayLock, isCounted) = try await transaction.query(
      """
      SELECT now()::text, has_any_column_privilege(\(change.target.table.quoted)::regclass, 'UPDATE'),
             current_setting('track_counts') = 'on'
      """
    ).onlyRow(as: String.self, Bool.self, Bool.self)
    let context = BatchContext(
      BatchOrigin(
        pipeline: definition.name, dataset: dataset.name, type: dataset.type,
        chunkID: events.chunkID, jobID: events.chunkID, askedAt: now, number: 1, cluster: nil),
      rehearsed.plan,
      versions: RowVersions(exportedSnapshot: nil, exportedCluster: nil, cluster: nil))
    return RehearsalStage(
      transaction: transaction, catalog: catalog, events: events, context: context,
      rehearsed: rehearsed,
      mayLock: mayLock, isCounted: isCounted)
  }
}

extension Finding {
  /// For other errors: says that there was no rehearsal.
  public static let notRehearsed = Finding(
    severity: .note, path: "datasets",
    message: "no change was rehearsed: what else is wrong comes first",
    remedy: "mend the errors, and check again")
}
