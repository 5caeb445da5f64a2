package import Definitions
import Vocabulary

/// All changes that the events of a dataset can cause, in order. `lethe check` examines the plan, the limits use it to
/// count rows, `lethe plan` shows it, and apply runs it.
///
/// The plan depends only on the definition and the catalog. Apply creates it once for each chunk.
package struct ApplyPlan: Sendable {
  package let pipeline: String
  package let dataset: Dataset
  /// The restores, which run first. A restore checks which transaction wrote a row last, so it must run before any
  /// other change of the row.
  package let restores: [Change]
  /// The changes of the declared targets in their order. Nested targets come before the target that contains them.
  package let children: [Change]
  /// The changes of the dataset's own table.
  package let own: [Change]
  /// The paths from protected IDs to rows, for all datasets. IDs that a version of Lethe without holds has protected
  /// may still hide rows on these paths.
  package let protections: [ProtectionPath]

  /// All changes, in order.
  package var changes: [Change] { restores + children + own }

  /// - Throws: `PlanError` if a table or a column of the definition is missing.
  package init(_ dataset: Dataset, of definition: Definition, catalog: Catalog) throws {
    try self.init(
      dataset, pipeline: definition.name,
      protections: ProtectionPath.all(of: definition, catalog: catalog), catalog: catalog)
  }

  /// The plan without `protections`, for checks. These depend on all datasets. Without them, a mistake in one dataset
  /// does not hide the findings of another dataset.
  /// - Throws: `PlanError` if a table or a column of the dataset is missing.
  package init(checking dataset: Dataset, catalog: Catalog) throws {
    try self.init(dataset, pipeline: "", protections: [], catalog: catalog)
  }

  private init(
    _ dataset: Dataset, pipeline: String, protections: [ProtectionPath], catalog: Catalog
  ) throws {
    self.dataset = dataset
    self.pipeline = pipeline
    self.protections = protections
    var (restores, changes): ([Change], [Change]) = ([], [])
    for target in try TargetPath.all(of: dataset, catalog: catalog) {
      for (action, reasons) in Self.grouped(target.actions) {
        if action.kind.operation != nil {
          changes.append(Change(target: target, kind: action.kind, reasons: reasons))
        }
        if let restore = action.kind.formerRestore {
          restores.append(
            Change(
              target: target, kind: restore, reasons: [],
              protections: protections.filter { $0.table == target.table.name }))
        }
      }
    }
    for (index, change) in changes.enumerated() {
      changes[index].dependents = changes.compactMap { $0.dependent(on: change) }
    }
    self.restores = restores
    children = changes.filter { !$0.target.isOwn }
    own = changes.filter(\.target.isOwn)
  }

  /// Groups the reasons that have the same action, because one change is enough for them.
  private static func grouped(
    _ actions: [Reason: Action]
  ) -> [(action: Action, reasons: [String])] {
    var groups: [(action: Action, reasons: [String])] = []
    for reason in Reason.allCases {
      guard let action = actions[reason] else { continue }
      if let index = groups.firstIndex(where: { $0.action == action }) {
        groups[index].reasons.append(reason.rawValue)
      } else {
        groups.append((action, [reason.rawValue]))
      }
    }
    return groups
  }

  /// The reasons whose action meets a condition.
  package func reasons(_ isIncluded: (any RowAction) -> Bool) -> [String] {
    dataset.actions.filter { isIncluded($0.value.kind) }.keys.map(\.rawValue).sorted()
  }
}
