package import DefinitionFiles
package import SQLText

/// The action that queues the ID to be fetched again, and can mark its row as stale by setting columns. In a target, it
/// only marks rows.
package struct RehydrateAction: RowAction {
  package static let word = "rehydrate"
  package static let form = word

  /// The values that mark the row. Empty if the row is not marked.
  package let mark: [ColumnValue]

  package init(mark: [ColumnValue] = []) { self.mark = mark }

  package static func fromWord() -> RehydrateAction? { RehydrateAction() }

  package static func read(_ map: YAMLMap) -> RehydrateAction? {
    map.requiredMap(word, keys: .fixed(["set"])).flatMap { ColumnValue.all($0, "set") }
      .map { RehydrateAction(mark: $0) }
  }

  package var written: String {
    mark.isEmpty ? Self.word : "{\(Self.word): {set: \(ColumnValue.written(mark))}}"
  }

  package var columns: [String] { mark.map(\.column) }

  package func renamingColumns(_ name: (String) -> String) -> RehydrateAction {
    RehydrateAction(mark: mark.renamingColumns(name))
  }

  /// Reads a stored action. Actions that an older version of Lethe stored have no `mark`, because rehydrate could not
  /// mark rows then.
  package init(stored container: KeyedDecodingContainer<StoredKey>) throws {
    mark = try container.decodeIfPresent([ColumnValue].self, forKey: "mark") ?? []
  }

  package func encode(into container: inout KeyedEncodingContainer<StoredKey>) throws {
    try container.encode(mark, forKey: "mark")
  }

  package var queuesIDs: Bool { true }
  package var isOncePerEdit: Bool { true }

  package var requirements: [ActionRequirement] {
    (mark.isEmpty ? [] : [.update(columns)]) + mark.map { .value($0) }
  }

  package var operation: RowOperation? { mark.isEmpty ? nil : .update }

  package var columnsSet: [String] { columns }
  package func assignments(_ row: some RowSQL) -> [SQL] { mark.map { row.assignment($0) } }

  package func needsChange(_ row: some RowSQL) -> SQL? { .any(mark.map { row.differs($0) }) }
}

extension Action {
  public static func rehydrate(mark: [ColumnValue]) -> Action {
    Action(RehydrateAction(mark: mark))
  }
}
