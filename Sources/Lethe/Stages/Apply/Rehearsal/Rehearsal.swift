public import Definitions
import Ledger
public import PostgreSQL
import Vocabulary
public import Warehouse

/// Tests each change of a definition on one row of each part of its table with apply's own statement. It also
/// restores a protected row, and rolls back everything. So it finds what a trigger, a constraint or a
/// privilege forbids before a run does.
///
/// Rows are changed one by one. Rows to which rows of other tables refer are left out, and no lock wait is
/// longer than a second. Effects of triggers outside of the database are not rolled back, and sequences
/// advance.
public struct Rehearsal: Sendable {
  let connection: Connection
  let catalog: Catalog
  let definition: Definition

  /// The result of a rehearsal.
  public struct Outcome: Sendable {
    /// The findings on refused changes, copied rows, and changes that were not rehearsed.
    public var findings: [Finding] = []
    /// The triggers that have copied rows, or have probably copied rows.
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

  /// An error that rolls back a transaction after its effect was examined.
  private struct RolledBack: Error {
    let tally: RehearsalTally
  }

  /// The largest number of parts of a table that are tried. For each part, the planner reads all parts.
  private static let partsMax = 12

  private static let lockTimeoutSeconds = 1
  static let statementTimeoutSeconds = 10

  public init(connection: Connection, catalog: Catalog, definition: Definition) {
    self.connection = connection
    self.catalog = catalog
    self.definition = definition
  }

  /// - Parameter announce: called with the triggers that will fire, before anything is tried.
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
        the rehearsal fires triggers; their effects outside of the database are not rolled back: \
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
    // The tried parts are spread evenly from the first to the last, because the newest and the oldest months
    // may be unusual.
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

  /// Rehearses a change on one part, in a transaction of its own, so that no lock is held for long.
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

  /// The tables, and their parts, from which the events of a change delete rows before the change.
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
  /// The note that there was no rehearsal, because there are other errors.
  public static let notRehearsed = Finding(
    severity: .note, path: "datasets",
    message: "no change was rehearsed, because there are other errors",
    remedy: "fix the errors, and check again")
}
