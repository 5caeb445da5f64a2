package import DefinitionFiles
package import SQLText

/// One kind of action: its name, its form in definitions, its requirements for a table, and its effect on the rows that
/// an event matches.
///
/// Each action is one type in one file. To add an action, add such a file, an entry in `ActionVocabulary.standard`, and
/// the action's word in the ledger's enum type `lethe.action`. Statements, holds, limits, records, plans and checks
/// use only this protocol, except that a few conditions on records name an action by its word: `delete`, `redact`,
/// `scrub_geo` or `rehydrate`.
package protocol RowAction: RowChange {
  /// The action's key in the runs' copies of the definition. It must never change, because older runs contain it.
  static var storedKey: String { get }
  /// The action's form in a definition, for messages: `delete`, or `{scrub_geo: …}`.
  static var form: String { get }

  /// The action that a definition writes as a word, without a mapping.
  /// - Returns: nil if the action needs a mapping. `missingMappingError` is then the error.
  static func fromWord() -> Self?
  /// The error for a word without its mapping. The message says what is missing, and the remedy says what to write.
  static var missingMappingError: (message: String, remedy: String)? { get }
  /// Whether the action can be written as `{word: …}`.
  static var allowsMapping: Bool { get }
  /// Reads `{word: …}`. The mapping has only this key.
  /// - Returns: nil if the mapping is not valid. The mistake is then in `map.mistakes`.
  static func read(_ map: YAMLMap) -> Self?
  /// The text of the action in a definition.
  var written: String { get }
  /// The columns that the action names, in order.
  var columns: [String] { get }
  /// The same action on columns of other names.
  func renamingColumns(_ name: (String) -> String) -> Self
  /// Reads what `encode` writes, and what earlier versions wrote.
  init(stored container: KeyedDecodingContainer<StoredKey>) throws
  func encode(into container: inout KeyedEncodingContainer<StoredKey>) throws

  /// The change that restores rows that a version of Lethe without holds has protected. Nil if there is none.
  var formerRestore: FormerRestore? { get }
  /// The requirements for a table, for `lethe check`.
  var requirements: [ActionRequirement] { get }
}

/// A change of rows: its name, its meaning for limits and holds, and its statement.
package protocol RowChange: Sendable, Hashable {
  /// The change's name in definitions, in `lethe.action` and in reports: `scrub_geo`.
  static var word: String { get }

  /// Whether the change deletes or hides rows, or removes data from them, and so counts towards the limits.
  static var isRedacting: Bool { get }
  /// Whether the change removes all content of a row. The IDs of such posts and users leave tombstones, unless the
  /// dataset has `tombstones: false`.
  static var isRemoving: Bool { get }
  /// Whether the event's ID is queued to be fetched again. This has an effect only in a dataset's own actions.
  var queuesIDs: Bool { get }
  /// Whether the change is made only once for each edit of a post, because the row might already have been fetched
  /// again after the edit.
  var isOncePerEdit: Bool { get }
  /// The values that the change removes from rows that are kept. They are also removed from the holds of these rows.
  var erasure: Erasure? { get }
  /// How the change hides rows. Nil if it hides none.
  var hiding: Hiding? { get }

  // MARK: Its statement

  /// How rows are changed. Nil if rows are not changed.
  var operation: RowOperation? { get }
  /// The columns that the change sets.
  var columnsSet: [String] { get }
  /// `column = value` for each column in `columnsSet`.
  func assignments(_ row: some RowSQL) -> [SQL]
  /// The condition that a row still needs the change. Nil if each matching row needs it.
  func needsChange(_ row: some RowSQL) -> SQL?
}

/// How rows are changed.
package enum RowOperation: Sendable, Hashable {
  case delete
  case update
}

/// A requirement of an action for the table that it changes.
package enum ActionRequirement: Sendable, Hashable {
  /// Rows can be deleted.
  case delete
  /// These columns can be set.
  case update([String])
  /// The column exists and accepts the value.
  case value(ColumnValue)
  /// The column exists and contains JSON.
  case json(String)
  /// The rows have a key that the action does not set, so that they can be found and restored. With `wait`, the table's
  /// row versions must show each change.
  case holds(setting: [ColumnValue], fallback: [ColumnValue], Restore.IfWritten)
}

/// The columns and values that hide a row, and how the row is restored.
package struct Hiding: Sendable, Hashable {
  package let set: [ColumnValue]
  package let restore: Restore
}

/// SQL about one row of a table. It depends on the types of the table's columns.
package protocol RowSQL {
  func column(_ name: String) -> SQL
  /// `column = value`.
  func assignment(_ value: ColumnValue) -> SQL
  /// `column = …`, where the new value is the JSON without the paths.
  func assignment(_ cut: JSONCut) -> SQL
  /// The condition that the column has the value. If the value is evaluated for each row, such as now(), the condition
  /// is that the column is not NULL.
  func isAsSet(_ value: ColumnValue) -> SQL
  /// The opposite of `isAsSet`.
  func differs(_ value: ColumnValue) -> SQL
  /// The condition that the column's JSON has a value at one of the paths.
  func has(_ cut: JSONCut) -> SQL
}

/// The key of an action, or of a part of it, in a run's copy of the definition.
package struct StoredKey: CodingKey, ExpressibleByStringLiteral {
  package let stringValue: String
  package var intValue: Int? { nil }

  package init(_ key: String) { stringValue = key }
  package init(stringLiteral key: String) { stringValue = key }
  package init?(stringValue: String) { self.stringValue = stringValue }
  package init?(intValue: Int) { nil }
}

/// The properties that most actions have.
extension RowAction {
  package static var form: String { "{\(word): …}" }
  package static var storedKey: String { word }
  package static func fromWord() -> Self? { nil }
  package static var missingMappingError: (message: String, remedy: String)? { nil }
  package static var allowsMapping: Bool { true }
  package static func read(_ map: YAMLMap) -> Self? { nil }
  package var written: String { Self.word }
  package var columns: [String] { [] }
  package func renamingColumns(_ name: (String) -> String) -> Self { self }
  package var formerRestore: FormerRestore? { nil }
  package var requirements: [ActionRequirement] { [] }
  package func encode(into container: inout KeyedEncodingContainer<StoredKey>) throws {}
}

extension RowChange {
  package var word: String { Self.word }
  package var isRedacting: Bool { Self.isRedacting }
  package var isRemoving: Bool { Self.isRemoving }
}

/// The properties that most changes have.
extension RowChange {
  package static var isRedacting: Bool { false }
  package static var isRemoving: Bool { false }
  package var queuesIDs: Bool { false }
  package var isOncePerEdit: Bool { false }
  package var erasure: Erasure? { nil }
  package var hiding: Hiding? { nil }
  package var operation: RowOperation? { nil }
  package var columnsSet: [String] { [] }
  package func assignments(_ row: some RowSQL) -> [SQL] { [] }
  package func needsChange(_ row: some RowSQL) -> SQL? { nil }
}
