/// The action that deletes the rows that an event matches.
package struct DeleteAction: RowAction {
  package static let word = "delete"
  package static let form = word
  package static let allowsMapping = false

  package init() {}

  package static func fromWord() -> DeleteAction? { DeleteAction() }

  package init(stored container: KeyedDecodingContainer<StoredKey>) {}

  package static let isRedacting = true
  package static let isRemoving = true
  package var requirements: [ActionRequirement] { [.delete] }
  package var operation: RowOperation? { .delete }
}

extension Action {
  public static let delete = Action(DeleteAction())
}
