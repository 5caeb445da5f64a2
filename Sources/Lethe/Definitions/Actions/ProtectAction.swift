package import DefinitionFiles
package import SQLText

/// The action that hides the row by setting columns. Unless `restore` is `none`, a hold keeps the columns' former
/// values, and the row gets these values back when no ID holds it any more.
package struct ProtectAction: RowAction {
  package static let word = "protect"
  package static let missingMappingError: (message: String, remedy: String)? = (
    "protect names no columns", "write {protect: {set: {column: value}}}"
  )

  private let set: [ColumnValue]
  private let restore: Restore

  package init(set: [ColumnValue], restore: Restore) { (self.set, self.restore) = (set, restore) }

  package static func read(_ map: YAMLMap) -> ProtectAction? {
    guard let protect = map.requiredMap(word, keys: .fixed(["set", "restore"])) else { return nil }
    let set = ColumnValue.all(protect, "set")
    let restore = protect.node("restore").flatMap { WrittenRestore($0, in: protect) }
    return set.map {
      ProtectAction(set: $0, restore: restore?.resolved(of: $0, protect.mistakes) ?? .none)
    }
  }

  package var written: String {
    "{\(Self.word): {set: \(ColumnValue.written(set)), restore: \(restore.written)}}"
  }

  package var columns: [String] { (set + restore.fallback).map(\.column) }

  package func renamingColumns(_ name: (String) -> String) -> ProtectAction {
    ProtectAction(set: set.renamingColumns(name), restore: restore.renamingColumns(name))
  }

  package init(stored container: KeyedDecodingContainer<StoredKey>) throws {
    set = try container.decode([ColumnValue].self, forKey: "set")
    restore = try container.decode(Restore.self, forKey: "restore")
  }

  package func encode(into container: inout KeyedEncodingContainer<StoredKey>) throws {
    try container.encode(set, forKey: "set")
    try container.encode(restore, forKey: "restore")
  }

  package static let isRedacting = true
  package var hiding: Hiding? { Hiding(set: set, restore: restore) }

  package var formerRestore: FormerRestore? {
    restore.fallback.isEmpty ? nil : FormerRestore(from: set, to: restore.fallback)
  }

  package var requirements: [ActionRequirement] {
    let values = [.update(set.map(\.column))] + set.map { ActionRequirement.value($0) }
    guard case .former(let fallback, let ifWritten) = restore else { return values }
    return values + fallback.map { .value($0) }
      + [.holds(setting: set, fallback: fallback, ifWritten)]
  }

  package var operation: RowOperation? { .update }
  package var columnsSet: [String] { self.set.map(\.column) }
  package func assignments(_ row: some RowSQL) -> [SQL] { set.map { row.assignment($0) } }
  package func needsChange(_ row: some RowSQL) -> SQL? { .any(set.map { row.differs($0) }) }
}

/// The change that restores rows that a version of Lethe without holds has protected. It sets the values in the
/// definition's `restore`. A `ProtectAction` creates this change. A definition cannot name it.
package struct FormerRestore: RowChange {
  package static let word = "restore"

  private let from: [ColumnValue]
  private let to: [ColumnValue]

  package init(from: [ColumnValue], to: [ColumnValue]) { (self.from, self.to) = (from, to) }

  package var operation: RowOperation? { .update }
  package var columnsSet: [String] { to.map(\.column) }
  package func assignments(_ row: some RowSQL) -> [SQL] { to.map { row.assignment($0) } }

  /// The condition that a row has the values that Lethe set. If a row has other values, another program has changed it.
  package func needsChange(_ row: some RowSQL) -> SQL? {
    from.map { row.isAsSet($0) }.joined(separator: " AND ")
  }
}

extension Action {
  public static func protect(set: [ColumnValue], restore: Restore) -> Action {
    Action(ProtectAction(set: set, restore: restore))
  }
}
