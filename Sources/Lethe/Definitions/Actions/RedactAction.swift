/// The action that removes the content from the row. The row itself stays.
package struct RedactAction: ErasingAction {
  package static let word = "redact"
  package static let isRemoving = true

  package let content: Erasure

  package init(_ content: Erasure) { self.content = content }
}

extension Action {
  public static func redact(_ content: Erasure) -> Action { Action(RedactAction(content)) }
}
