import Foundation
public import Vocabulary

/// One setting of a definition, for messages and comparisons. Defaults are included. A dataset and a target have an
/// entry of their own, too.
public struct DefinitionEntry: Sendable, Equatable {
  /// The path of the entry's key in messages: `datasets.posts.actions.deleted`.
  public let path: String
  public let text: String
  public let part: Part
  /// The dataset that contains the entry. Nil outside of datasets.
  public let dataset: String?

  /// The kind of an entry. It determines whether an open run may adopt a change of the entry.
  public enum Part: Sendable, Equatable {
    case limit
    /// The largest size of a chunk. It takes effect when the export cuts chunks.
    case chunkSize
    /// The size of one transaction.
    case batchSize
    /// The name of a column of this table.
    case column(of: TableName)
    /// The operator's SQL condition on rows of this table.
    case condition(of: TableName)
    case action(Action, Reason, of: TableName)
    case other
  }
}

/// An entry that differs between two definitions of the same name.
public struct DefinitionDifference: Sendable, Equatable, CustomStringConvertible {
  /// Nil if the earlier definition has no entry with this path.
  public let before: DefinitionEntry?
  /// Nil if the later definition has no entry with this path.
  public let now: DefinitionEntry?
  public let path: String

  public var description: String {
    "\(path): \(Self.words(before?.text, now?.text))"
  }

  /// The change in words, such as `100 became 90`. A value that is nil does not exist.
  public static func words(_ before: String?, _ now: String?) -> String {
    switch (before, now) {
    case (let before?, let now?): "\(before) became \(now)"
    case (let before?, nil): "\(before) was removed"
    case (nil, let now?): "\(now) was added"
    case (nil, nil): "unchanged"
    }
  }
}

extension Definition {
  /// All entries of the definition, in order.
  public var entries: [DefinitionEntry] {
    var entries = EntryList()
    entries.add(limits)
    for dataset in datasets { entries.add(dataset) }
    return entries.entries
  }

  /// The entry with this path, or else the entry of the nearest enclosing path.
  public func entry(at path: String) -> DefinitionEntry? {
    let entries = Dictionary(
      entries.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
    var path = path[...]
    while true {
      if let entry = entries[String(path)] { return entry }
      guard let end = path.lastIndex(where: { $0 == "." || $0 == "[" }) else { return nil }
      path = path[..<end]
    }
  }

  /// The entries that differ from another definition, in order. If only one definition has an entry, such as a dataset
  /// or a target, the entries within it are not listed.
  public func differences(to now: Definition) -> [DefinitionDifference] {
    let (entries, entriesNow) = (self.entries, now.entries)
    func byPath(_ entries: [DefinitionEntry]) -> [String: DefinitionEntry] {
      Dictionary(entries.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
    }
    let (before, after) = (byPath(entries), byPath(entriesNow))
    var found: [DefinitionDifference] = []
    var whole: [String] = []
    let paths = entries.map(\.path) + entriesNow.map(\.path).filter { before[$0] == nil }
    for path in paths where before[path] != after[path] {
      if whole.contains(where: { path.hasPrefix($0 + ".") }) { continue }
      found.append(
        DefinitionDifference(before: before[path], now: after[path], path: path))
      if before[path] == nil || after[path] == nil { whole.append(path) }
    }
    return found
  }
}

/// Collects the entries of a definition.
private struct EntryList {
  var entries: [DefinitionEntry] = []
  private var dataset: String?

  private mutating func add(_ path: String, _ text: String, _ part: DefinitionEntry.Part) {
    entries.append(DefinitionEntry(path: path, text: text, part: part, dataset: dataset))
  }

  mutating func add(_ limits: RedactionLimits) {
    add(JSONValue(encoding: limits), at: "limits") { _ in .limit }
  }

  mutating func add(_ dataset: Dataset) {
    self.dataset = dataset.name
    defer { self.dataset = nil }
    let path = "datasets.\(dataset.name)"
    add(path, "a dataset of type \(dataset.type.rawValue)", .other)
    let table = dataset.table
    add(JSONValue(encoding: dataset), at: path, excluding: ["name"]) { Self.part($0, of: table) }
    add(dataset.actions, of: table, at: path)
    add(dataset.targets, at: path)
  }

  private mutating func add(_ targets: [Target], at path: String) {
    for (index, target) in targets.enumerated() {
      let path = "\(path).targets[\(index)]"
      add(path, "a target", .other)
      add(JSONValue(encoding: target), at: path) { Self.part($0, of: target.table) }
      add(target.actions, of: target.table, at: path)
      add(target.targets, at: path)
    }
  }

  private mutating func add(_ actions: [Reason: Action], of table: TableName, at path: String) {
    for (reason, action) in actions.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      add(
        "\(path).actions.\(reason.rawValue)", action.written, .action(action, reason, of: table))
    }
  }

  /// - Parameter keys: the keys of the path, from the outermost.
  private static func part(_ keys: [String], of table: TableName) -> DefinitionEntry.Part {
    switch keys {
    case ["id"], ["match"], ["id_time"], ["id", "column"], ["match", "column"]:
      .column(of: table)
    case ["where"]: .condition(of: table)
    case ["chunk.ids"], ["chunk.bytes"]: .chunkSize
    case ["batch", "events"], ["batch", "rows"]: .batchSize
    default: .other
    }
  }

  /// Adds all members of a value from its JSON, so that new members need no change here.
  private mutating func add(
    _ value: JSONValue, at path: String, _ keys: [String] = [], excluding left: Set<String> = [],
    _ part: ([String]) -> DefinitionEntry.Part
  ) {
    switch value {
    case .object(let members) where keys == ["table"]:
      add(path, Self.table(members), .other)
    case .object(let members):
      for (key, member) in members.sorted(by: { $0.key < $1.key })
      where !(keys.isEmpty && (left.contains(key) || key == "actions" || key == "targets")) {
        let word = Self.word(key)
        add(member, at: "\(path).\(word)", keys + [word], part)
      }
    case .array(let members):
      for (index, member) in members.enumerated() {
        add(member, at: "\(path)[\(index)]", keys, part)
      }
    case .text(let text): add(path, text, part(keys))
    case .number(let number): add(path, "\(number)", part(keys))
    case .flag(let flag): add(path, "\(flag)", part(keys))
    case .null: break
    }
  }

  private static func table(_ members: [String: JSONValue]) -> String {
    func text(_ key: String) -> String? {
      if case .text(let text)? = members[key] { text } else { nil }
    }
    return TableName(schema: text("schema"), name: text("name") ?? "").written
  }

  /// The key in messages for a key of the stored JSON. It is the key in the file, except that messages name `batch` and
  /// `batch_rows` as `batch.events` and `batch.rows`.
  private static func word(_ key: String) -> String {
    switch key {
    case "condition": return "where"
    case "chunkIDsMax": return "chunk.ids"
    case "chunkBytesMax": return "chunk.bytes"
    case "idTimeColumn": return "id_time"
    case "allowsWholeChunks": return "allow_whole_chunks"
    default:
      return key.map { $0.isUppercase ? "_\($0.lowercased())" : String($0) }.joined()
    }
  }
}

/// Any JSON value.
private enum JSONValue: Decodable {
  case object([String: JSONValue])
  case array([JSONValue])
  case text(String)
  case number(Decimal)
  case flag(Bool)
  case null

  /// Creates the value's JSON. Null if the value cannot be encoded.
  init(encoding value: some Encodable) {
    let data = try? JSONEncoder().encode(value)
    self = data.flatMap { try? JSONDecoder().decode(JSONValue.self, from: $0) } ?? .null
  }

  init(from decoder: any Decoder) throws {
    let value = try decoder.singleValueContainer()
    if value.decodeNil() {
      self = .null
    } else if let flag = try? value.decode(Bool.self) {
      self = .flag(flag)
    } else if let number = try? value.decode(Decimal.self) {
      self = .number(number)
    } else if let text = try? value.decode(String.self) {
      self = .text(text)
    } else if let members = try? value.decode([JSONValue].self) {
      self = .array(members)
    } else {
      self = .object(try value.decode([String: JSONValue].self))
    }
  }
}
