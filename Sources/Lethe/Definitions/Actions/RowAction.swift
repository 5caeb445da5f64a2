package import DefinitionFiles
package import SQLText

/// One kind of action: what it is called, how a definition writes it, what it needs of a table, and what it does to
/// the rows that an event matches.
///
/// Each action is one type in one file. A new one is such a file, its entry in `ActionVocabulary.standard`, and its
/// word in the ledger's enum type `lethe.action`. Statements, holds, limits, records, plans and checks are
/// made from this protocol alone.
package protocol RowAction: RowChange {
  /// Its key in the frozen definitions of runs. It must never change: older runs contain it.
  static var frozenKey: String { get }
  /// How a definition writes it, for messages: `delete`, or `{scrub_geo: …}`.
  static var form: String { get }

  /// The action that its word alone stands for.
  /// - Returns: nil if the word needs more; `fault` is what to say then.
  static func alone() -> Self?
  /// The error for the word alone: what is missing, and what to write.
  static var fault: (message: String, remedy: String)? { get }
  /// Whether a definition may write it as `{word: …}`.
  static var isMapping: Bool { get }
  /// Reads `{word: …}`, which has this key only.
  /// - Returns: nil if it is not valid. The mistake is then in the list.
  static func read(_ map: YAMLMap) -> Self?
  /// The text of a definition for it.
  var written: String { get }
  /// The columns that it names, in order.
  var columns: [String] { get }
  /// The same action on columns of other names.
  func renamingColumns(_ name: (String) -> String) -> Self
  /// Reads what `freeze` writes, and what earlier versions wrote.
  init(frozen container: KeyedDecodingContainer<FrozenKey>) throws
  func freeze(into container: inout KeyedEncodingContainer<FrozenKey>) throws

  /// What restores rows that a version without holds has changed; nil if nothing does.
  var formerRestore: FormerRestore? { get }
  /// What it needs of a table, for `lethe check`.
  var requirements: [ActionRequirement] { get }
}

/// A change of rows: what it is called, what it means for limits and holds, and its statement.
package protocol RowChange: Sendable, Hashable {
  /// Its name in definitions, in `lethe.action` and in reports: `scrub_geo`.
  static var word: String { get }

  /// Whether it takes something away from a row, and so counts towards the limits.
  static var isRedacting: Bool { get }
  /// Whether it removes all content of a row. Such rows leave tombstones.
  static var isRemoving: Bool { get }
  /// Whether the event's ID is queued to be fetched again.
  var queuesIDs: Bool { get }
  /// Whether it handles each edit of a post only once: the row may have been fetched again since.
  var isOncePerEdit: Bool { get }
  /// The values that it removes from rows that are kept. They are removed from the holds of these rows, too.
  var erasure: Erasure? { get }
  /// How it hides rows; nil if it hides none.
  var hiding: Hiding? { get }

  // MARK: Its statement

  /// How it changes rows; nil leaves them alone.
  var operation: RowOperation? { get }
  /// The columns that it sets.
  var columnsSet: [String] { get }
  /// `column = value` for each of them.
  func assignments(_ row: some RowSQL) -> [SQL]
  /// The condition that a row still needs the change; nil if each matching row does.
  func needsChange(_ row: some RowSQL) -> SQL?
}

/// How rows are changed.
package enum RowOperation: Sendable, Hashable {
  case delete
  case update
}

/// What an action needs of the table that it changes.
package enum ActionRequirement: Sendable, Hashable {
  case delete
  /// To set these columns.
  case update([String])
  /// The column exists and accepts the value.
  case value(ColumnValue)
  /// The column exists and holds JSON.
  case json(String)
  /// The rows have a key by which they can be found and restored.
  case holds(setting: [ColumnValue], fallback: [ColumnValue], Restore.IfWritten)
}

/// The columns that hide a row, and how it is restored.
package struct Hiding: Sendable, Hashable {
  package let set: [ColumnValue]
  package let restore: Restore
}

/// SQL about one row of a table, which knows the types of its columns.
package protocol RowSQL {
  func column(_ name: String) -> SQL
  /// `column = value`.
  func assignment(_ value: ColumnValue) -> SQL
  /// `column = …`, without the paths.
  func assignment(_ cut: JSONCut) -> SQL
  /// The condition that the column has the value. A value that is evaluated for each row, such as now(), counts as set
  /// when the column is not NULL.
  func isAsSet(_ value: ColumnValue) -> SQL
  /// The opposite.
  func differs(_ value: ColumnValue) -> SQL
  /// The condition that the column's JSON has something at one of the paths.
  func has(_ cut: JSONCut) -> SQL
}

/// The key of an action, or of a part of it, in a frozen definition.
package struct FrozenKey: CodingKey, ExpressibleByStringLiteral {
  package let stringValue: String
  package var intValue: Int? { nil }

  package init(_ key: String) { stringValue = key }
  package init(stringLiteral key: String) { stringValue = key }
  package init?(stringValue: String) { self.stringValue = stringValue }
  package init?(intValue: Int) { nil }
}

/// What most actions have.
extension RowAction {
  package static var form: String { "{\(word): …}" }
  package static var frozenKey: String { word }
  package static func alone() -> Self? { nil }
  package static var fault: (message: String, remedy: String)? { nil }
  package static var isMapping: Bool { true }
  package static func read(_ map: YAMLMap) -> Self? { nil }
  package var written: String { Self.word }
  package var columns: [String] { [] }
  package func renamingColumns(_ name: (String) -> String) -> Self { self }
  package var formerRestore: FormerRestore? { nil }
  package var requirements: [ActionRequirement] { [] }
  package func freeze(into container: inout KeyedEncodingContainer<FrozenKey>) throws {}
}

extension RowChange {
  package var word: String { Self.word }
  package var isRedacting: Bool { Self.isRedacting }
  package var isRemoving: Bool { Self.isRemoving }
}

/// What most changes have.
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
