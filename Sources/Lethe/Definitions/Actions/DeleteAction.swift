/// The action that deletes the row.
package struct DeleteAction: RowAction {
  package static let word = "delete"
  package static let form = word
  package static let isMapping = false

  package init() {}

  package static func alone() -> DeleteAction? { DeleteAction() }

  package init(frozen container: KeyedDecodingContainer<FrozenKey>) {}

  package static let isRedacting = true
  package static let isRemoving = true
  package var requirements: [ActionRequirement] { [.delete] }
  package var operation: RowOperation? { .delete }
}

extension Action {
  public static let delete = Action(DeleteAction())
}
