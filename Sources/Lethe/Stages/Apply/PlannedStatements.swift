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
  /// The reasons for which the statement runs. Empty for restores and records.
  public let reasons: [String]
  /// The SQL text, with the parameters `$1`, `$2`, … for the values.
  public let sql: String

  /// The phases, in the order in which a batch runs them.
  public enum Phase: String, Sendable, CaseIterable {
    case restores
    case children
    case ownTable = "own_table"
    case records
  }

  public enum Purpose: String, Sendable, CaseIterable {
    /// Counts the rows that need the change: for the limits and for `lethe plan`.
    case count
    /// Changes the rows.
    case change
    /// Finds rows that the change should have changed but did not.
    case verify
    /// Writes event records, tombstones and traces.
    case record
  }

  /// The statements with which apply counts, changes, verifies and records rows of a dataset. The statements
  /// that erase or release holds, the limited form for large events, and the update of the chunk's position
  /// are not included.
  ///
  /// A batch leaves out the statements that none of its events need. If an event has one row in the dataset's
  /// own table, the statement of the records also does the last change of that table.
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
    return phases.flatMap { phase, changes in
      changes.flatMap { change in
        [
          planned(phase, .count, change.count(of: range, in: context), of: change),
          planned(phase, .change, change.statement(for: range, in: context), of: change),
          planned(
            phase, .verify,
            change.unchangedRows(of: range, in: context, rowsMax: Batch.namedRowsMax), of: change),
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
