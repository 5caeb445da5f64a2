/// Does nothing. A definition must give an action for each reason, so it says this explicitly.
package struct IgnoreAction: RowAction {
  package static let word = "ignore"
  package static let form = word
  package static let isMapping = false

  package init() {}

  package static func alone() -> IgnoreAction? { IgnoreAction() }

  package init(frozen container: KeyedDecodingContainer<FrozenKey>) {}
}

extension Action {
  public static let ignore = Action(IgnoreAction())
}
