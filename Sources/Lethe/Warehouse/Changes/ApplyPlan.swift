package import Definitions
import Vocabulary

/// All that the events of a dataset can change, in the order in which it is changed: what `lethe check` looks at,
/// limits count, `lethe plan` shows and apply carries out.
///
/// It is made from the definition and the catalog alone, once for a chunk.
package struct ApplyPlan: Sendable {
  package let pipeline: String
  package let dataset: Dataset
  /// They look at who has written a row last, so they come before any other change of it.
  package let restores: [Change]
  /// Of further targets: children before parents, as declared.
  package let children: [Change]
  /// Of the dataset's own table.
  package let own: [Change]
  /// The paths on which IDs of versions without holds may hide rows, of all the datasets.
  package let protections: [ProtectionPath]

  /// In order.
  package var changes: [Change] { restores + children + own }

  /// - Throws: `PlanError` if a table or a column is missing.
  package init(_ dataset: Dataset, of definition: Definition, catalog: Catalog) throws {
    self.dataset = dataset
    pipeline = definition.name
    protections = try ProtectionPath.all(of: definition, catalog: catalog)
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

  /// One change for all the reasons that have the same action.
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

  /// The reasons whose action is of a kind.
  package func reasons(_ isIncluded: (any RowAction) -> Bool) -> [String] {
    dataset.actions.filter { isIncluded($0.value.kind) }.keys.map(\.rawValue).sorted()
  }
}
