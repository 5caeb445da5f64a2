package import DefinitionFiles
package import SQLText

/// Takes the content out of the row, which stays as its own tombstone.
package struct RedactAction: RowAction {
  package static let word = "redact"
  package static let fault: (message: String, remedy: String)? = (
    "redact names no columns", "write {redact: [column, …]}"
  )

  private let content: Erasure

  package init(_ content: Erasure) { self.content = content }

  package static func read(_ map: YAMLMap) -> RedactAction? {
    Erasure(map, word).map { RedactAction($0) }
  }

  package var written: String { "{\(Self.word): \(content.written)}" }
  package var columns: [String] { content.columns }

  package func renamingColumns(_ name: (String) -> String) -> RedactAction {
    RedactAction(content.renamingColumns(name))
  }

  package init(frozen container: KeyedDecodingContainer<FrozenKey>) throws {
    content = try container.decode(Erasure.self, forKey: "_0")
  }

  package func freeze(into container: inout KeyedEncodingContainer<FrozenKey>) throws {
    try container.encode(content, forKey: "_0")
  }

  package static let isRedacting = true
  package static let isRemoving = true
  package var erasure: Erasure? { content }
  package var requirements: [ActionRequirement] { content.requirements }
  package var operation: RowOperation? { .update }
  package var columnsSet: [String] { content.columns }
  package func assignments(_ row: some RowSQL) -> [SQL] { content.assignments(row) }
  package func needsChange(_ row: some RowSQL) -> SQL? { content.needsChange(row) }
}

extension Action {
  public static func redact(_ content: Erasure) -> Action { Action(RedactAction(content)) }
}
