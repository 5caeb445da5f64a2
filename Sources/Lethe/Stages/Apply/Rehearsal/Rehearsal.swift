public import Definitions
import Ledger
public import PostgreSQL
import Vocabulary
public import Warehouse

/// Tries each change of a definition with apply's own statement, on one row of each part of its table, in at most 12
/// parts. A row that was hidden is also restored. Then everything is rolled back. So refusals by a trigger, a
/// constraint or a missing privilege are found before a run. A part is a leaf partition, a table that inherits from the
/// table, or the table itself if it is not partitioned.
///
/// Rows are changed one by one. A DELETE is not tried on a row if Lethe can read rows that refer to it. No lock wait is
/// longer than a second. Effects of triggers outside of the database are not rolled back, and sequences advance.
public struct Rehearsal: Sendable {
  let connection: Connection
  let catalog: Catalog
  let definition: Definition

  /// The result of a rehearsal.
  public struct Outcome: Sendable {
    /// The findings on refused changes, copied rows, and changes that were not rehearsed.
    public var findings: [Finding] = []
    /// The triggers that have probably written copies of changed rows into other tables.
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
    let findings: RehearsalFindings
  }

  /// The largest number of parts of a table that are tried. Each try takes longer if the table has more parts,
  /// because the planner reads them all.
  private static let partsMax = 12

  private static let lockTimeoutSeconds = 1
  static let statementTimeoutSeconds = 10

  public init(connection: Connection, catalog: Catalog, definition: Definition) {
    self.connection = connection
    self.catalog = catalog
    self.definition = definition
  }

  /// - Parameter announce: called with a message that names the triggers that will fire, before anything is tried. Not
  ///   called if no trigger fires.
  /// - Throws: `PlanError` if a table or a column is missing; `PostgreSQLError` if the server cannot be reached.
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
      let findings = try await rehearse(each)
      outcome.copying.formUnion(findings.copying)
      for finding in findings.all where !outcome.findings.contains(finding) {
        outcome.findings.append(finding)
      }
    }
    return outcome
  }

  private func rehearse(_ rehearsed: Rehearsed) async throws -> RehearsalFindings {
    let parts = try await catalog.parts(of: rehearsed.change.target.table, on: connection)
    // The tried parts are spread evenly from the first to the last, because the newest and the oldest
    // partitions may be unusual.
    let places = min(parts.count, Self.partsMax)
    let tried = Set((0..<places).map { $0 * (parts.count - 1) / max(places - 1, 1) })
    var findings = RehearsalFindings(
      rehearsed, parts: parts.count, targets: try await targetsWithDeletes(rehearsed))
    for (index, part) in parts.enumerated() {
      if tried.contains(index) {
        findings = try await rehearse(rehearsed, on: part, findings)
      } else {
        findings.skipped(part, "at most \(Self.partsMax) parts of a table are rehearsed")
      }
    }
    return findings
  }

  /// Rehearses a change on one part, in a transaction of its own, so that no lock is held for long.
  private func rehearse(
    _ rehearsed: Rehearsed, on part: TablePart, _ findings: RehearsalFindings
  ) async throws -> RehearsalFindings {
    do {
      return try await connection.withTransaction { transaction -> RehearsalFindings in
        var findings = findings
        do {
          try await begin(rehearsed, transaction).rehearse(on: part, &findings)
        } catch let error as PostgreSQLError where error.state != nil {
          findings.refused(error, on: nil)
        }
        throw RolledBack(findings: findings)
      }
    } catch let rolledBack as RolledBack {
      return rolledBack.findings
    }
  }

  /// The target tables, and their parts, from which the plan deletes rows.
  private func targetsWithDeletes(_ rehearsed: Rehearsed) async throws -> Set<String> {
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
             set_config('statement_timeout', \("\(Self.statementTimeoutSeconds)s"), true)
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
  /// The note that no change was rehearsed, because there are other errors.
  public static let notRehearsed = Finding(
    severity: .note, path: "datasets",
    message: "no change was rehearsed, because there are other errors",
    remedy: "fix the errors, and check again")
}
