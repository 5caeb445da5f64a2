/// The action that does nothing. A dataset must have an action for each reason of its type, so it names this one
/// explicitly.
package struct IgnoreAction: RowAction {
  package static let word = "ignore"
  package static let form = word
  package static let allowsMapping = false

  package init() {}

  package static func fromWord() -> IgnoreAction? { IgnoreAction() }

  package init(stored container: KeyedDecodingContainer<StoredKey>) {}
}

extension Action {
  public static let ignore = Action(IgnoreAction())
}
