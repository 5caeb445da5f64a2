/// Does nothing, and says so: a definition has to answer each reason.
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
