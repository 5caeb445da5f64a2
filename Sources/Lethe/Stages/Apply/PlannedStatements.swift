public import Definitions
import Ledger
import SQLText
import Vocabulary
public import Warehouse

/// A statement of apply.
public struct PlannedStatement: Sendable, Equatable {
  public let dataset: String
  public let phase: Phase
  public let purpose: Purpose
  /// The change, such as `delete warehouse.posts`. Nil for statements for the whole batch.
  public let change: String?
  /// The reasons for which the statement runs. Empty for releases, restores and records.
  public let reasons: [String]
  /// The SQL text, with the parameters `$1`, `$2`, … for the values.
  public let sql: String

  /// The phases, in the order in which a batch runs them.
  public enum Phase: String, Sendable, CaseIterable {
    /// Ends holds and restores their rows.
    case releases
    /// Restores rows that were protected without holds.
    case restores
    case children
    case ownTable = "own_table"
    case records
  }

  public enum Purpose: String, Sendable, CaseIterable {
    /// Finds the holds of the released IDs, and the columns that no other ID holds.
    case find
    /// Counts the rows that need the change, to limit the rows of a transaction. The check of the limits uses the same
    /// condition.
    case count
    /// Changes the rows.
    case change
    /// Erases from the holds what the change erases from their rows.
    case erase
    /// Finds rows that the change should have changed but did not.
    case verify
    /// Writes event records, tombstones and traces, or the outcome of released holds.
    case record
  }

  /// The statements with which apply counts, changes, verifies and records rows of a dataset, and releases their holds.
  /// Not included are the limited form for large events, the checks of foreign keys, the statement that writes holds
  /// for protections without holds, and most statements that use only the ledger, such as the update of the chunk's
  /// position.
  ///
  /// A batch leaves out the statements that none of its events need. If an event can reach at most one row of the
  /// dataset's own table, the statement of the records also does the last change of that table. A release restores the
  /// columns of each hold. The statements here are for holds that have all columns that the definition sets.
  ///
  /// - Throws: `PlanError` if a table or a column is missing.
  public static func all(
    of dataset: Dataset, in definition: Definition, catalog: Catalog
  ) throws -> [PlannedStatement] {
    let plan = try ApplyPlan(dataset, of: definition, catalog: catalog)
    let origin = BatchOrigin(
      pipeline: definition.name, dataset: dataset.name, type: dataset.type, chunkID: 0, jobID: 0,
      askedAt: "", number: 1, cluster: nil)
    let context = BatchContext(
      origin, plan,
      versions: RowVersions(exportedSnapshot: "", exportedCluster: 0, cluster: 0))
    let range = EventRange(chunkID: 0, after: 0, through: Int64.max)
    let phases = [
      (Phase.restores, plan.restores), (.children, plan.children), (.ownTable, plan.own),
    ]
    func planned(
      _ phase: Phase, _ purpose: Purpose, _ sql: SQL, of change: Change? = nil
    ) -> PlannedStatement {
      PlannedStatement(
        dataset: dataset.name, phase: phase, purpose: purpose, change: change?.label,
        reasons: change?.reasons ?? [], sql: sql.description)
    }
    return plan.releases(of: range, in: context, dataset.name)
      + phases.flatMap { phase, changes in
        changes.flatMap { change in
          let erasure = change.holdErasure(of: range, in: context)
          return [
            planned(phase, .count, change.count(of: range, in: context), of: change),
            planned(phase, .change, change.statement(for: range, in: context), of: change),
          ] + (erasure.map { [planned(phase, .erase, $0, of: change)] } ?? []) + [
            planned(
              phase, .verify,
              change.unchangedRows(of: range, in: context, rowsMax: Batch.namedRowsMax), of: change)
          ]
        }
      } + [
        planned(
          .records, .record,
          BatchLedger.recordStatement(
            range, of: origin, context.answers(plan), making: nil, hasTouched: true))
      ]
  }
}

extension ApplyPlan {
  /// The statements of a batch that end holds and restore their rows.
  fileprivate func releases(
    of range: EventRange, in context: BatchContext, _ dataset: String
  ) -> [PlannedStatement] {
    func planned(
      _ purpose: PlannedStatement.Purpose, _ sql: SQL, of change: String? = nil
    ) -> PlannedStatement {
      PlannedStatement(
        dataset: dataset, phase: .releases, purpose: purpose, change: change, reasons: [],
        sql: sql.description)
    }
    let type = context.origin.type
    var seen: Set<RowRestoration.Group> = []
    var restorations: [PlannedStatement] = []
    for change in children + own {
      guard let group = RowRestoration.Group(change), seen.insert(group).inserted else { continue }
      let table = change.target.table
      restorations += [
        planned(
          .change, RowRestoration.restoration(of: group, in: table, context.versions, isFree: ""),
          of: "restore \(table.name)"),
        planned(
          .record, RowRestoration.outcome(of: group, in: table), of: "restore \(table.name)"),
      ]
    }
    return [
      planned(.find, Release.endings(in: range, context)),
      planned(.find, HoldClosing.restorableColumns(type)),
    ] + restorations
      + HoldClosing.endings(type, jobID: context.origin.jobID).map { planned(.record, $0) }
  }
}
