package import Definitions
internal import SQLText

/// A change of the rows of one table for some reasons. It is one statement in each batch.
package struct Change: Sendable {
  package let target: TargetPath
  package let kind: any RowChange
  /// The values of the enum type `lethe.reason` for which the change is made. Empty for a restore, which uses
  /// `lethe_restored` instead.
  package let reasons: [String]
  /// For a restore: the paths on which rows of this table are protected. A row that another protected ID still
  /// matches stays unchanged.
  package var protections: [ProtectionPath] = []
  /// How `lethe.hold` identifies the rows. Nil for a table without a key, because its rows have no holds.
  package var holdKey: HoldKey? { HoldKey(target.table) }
  /// For a delete: the targets with rows that are found through the deleted rows and are deleted for the same reasons.
  package var dependents: [Dependent] = []

  package struct Dependent: Sendable {
    package let table: WarehouseTable
    package let match: IDExpression
    /// The ID in the deleted row that `match` refers to.
    package let id: IDExpression
  }

  /// The action's value of the enum type `lethe.action`.
  package var action: String { kind.word }
  /// The name of the change in audit records and messages, such as `delete shop.posts`.
  package var label: String { "\(action) \(target.table.name)" }

  package var isDelete: Bool { kind.operation == .delete }
  package var isRestore: Bool { kind is FormerRestore }
  package var keepsHolds: Bool { kind.hiding?.restore.keepsHolds ?? false }

  /// The table's row, with the alias `t`.
  package var row: TableRow { TableRow(table: target.table, alias: "t") }

  func dependent(on parent: Change) -> Dependent? {
    guard isDelete, parent.isDelete, let step = target.steps.last,
      target.steps.count == parent.target.steps.count + 1,
      step.table.name == parent.target.table.name, step.match.isSame(as: parent.target.match),
      Set(parent.reasons).isSubset(of: reasons)
    else { return nil }
    return Dependent(table: target.table, match: target.match, id: step.id)
  }
}
