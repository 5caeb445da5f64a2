internal import DefinitionFiles
internal import Yams

/// `delete`, `ignore`, `rehydrate`, `{rehydrate: {set: …}}`, `{protect: {set: …, restore: …}}`,
/// `{scrub_geo: …}` or `{redact: …}`.
enum WrittenAction {
  case word(Located<String>)
  case protect(set: [ColumnValue], restore: WrittenRestore?)
  case rehydrate(set: [ColumnValue])
  case scrubGeo(Located<Erasure>)
  case redact(Located<Erasure>)

  private static let keys = ["protect", "scrub_geo", "redact", "rehydrate"]

  init(_ node: Node, in map: YAMLMap, reason: String) throws {
    let path = map.name(reason)
    guard node.mapping != nil else {
      guard node.scalar != nil, !YAMLMap.isNull(node) else {
        throw DefinitionError(
          file: map.file, line: node.mark?.line ?? map.line,
          message: "\(path) is mapped to nothing",
          remedy: "give it an action, such as delete; ignore says that nothing is to be done")
      }
      self = .word(try map.string(node, name: path))
      return
    }
    let action = try YAMLMap(node, file: map.file, path: path, keys: Self.keys)
    guard action.entries.count == 1, let word = action.entries.first?.key.value else {
      throw action.wrongType(path, node, "one action")
    }
    switch word {
    case "protect":
      let protect = try YAMLMap(
        action.requiredNode(word), file: map.file, path: action.name(word),
        keys: ["set", "restore"])
      self = .protect(
        set: try Self.columns(protect, "set"),
        restore: try protect.node("restore").map { try WrittenRestore($0, in: protect) })
    case "rehydrate":
      let rehydrate = try YAMLMap(
        action.requiredNode(word), file: map.file, path: action.name(word), keys: ["set"])
      self = .rehydrate(set: try Self.columns(rehydrate, "set"))
    case "scrub_geo": self = .scrubGeo(try Self.erasure(action, word))
    default: self = .redact(try Self.erasure(action, word))
    }
  }

  private static func columns(_ map: YAMLMap, _ key: String) throws -> [ColumnValue] {
    let columns = try YAMLMap(
      map.requiredNode(key), file: map.file, path: map.name(key), keys: nil)
    guard !columns.entries.isEmpty else {
      throw columns.wrongType(columns.path, try map.requiredNode(key), "{column: value, …}")
    }
    return try columns.entries.map { name, node in
      try value(node, of: name.value, in: columns)
    }
  }

  static func value(
    _ node: Node, of column: String, in map: YAMLMap
  ) throws -> ColumnValue {
    if YAMLMap.isNull(node) { return ColumnValue(column: column, value: nil) }
    guard let scalar = node.scalar else {
      throw map.wrongType(map.name(column), node, "a single value")
    }
    return ColumnValue(column: column, value: scalar.string)
  }

  // MARK: What is taken out of a row

  /// A list of columns that become NULL, or a mapping: a column and null, a value, or the paths to cut
  /// out of its JSON.
  private static func erasure(_ action: YAMLMap, _ word: String) throws -> Located<Erasure> {
    let node = try action.requiredNode(word)
    let path = action.name(word)
    let line = node.mark?.line ?? action.line
    guard node.mapping != nil else {
      let names = try action.strings(node, name: path)
      return Located(
        value: Erasure(set: names.value.map { ColumnValue(column: $0, value: nil) }), line: line)
    }
    let columns = try YAMLMap(node, file: action.file, path: path, keys: nil)
    var set: [ColumnValue] = []
    var cut: [JSONCut] = []
    for (name, node) in columns.entries {
      if let paths = node.sequence {
        guard !paths.isEmpty else {
          throw columns.wrongType(columns.name(name.value), node, "a list of paths")
        }
        cut.append(
          JSONCut(
            column: name.value,
            paths: try paths.map { try Self.path($0, of: name.value, in: columns) }))
      } else {
        set.append(try value(node, of: name.value, in: columns))
      }
    }
    guard !set.isEmpty || !cut.isEmpty else {
      throw columns.wrongType(path, node, "a list of columns, or {column: value, …}")
    }
    return Located(value: Erasure(set: set, cut: cut), line: line)
  }

  /// `place`, `geo.coordinates`, or `[a key, another.key]` where a key has a dot in it.
  private static func path(_ node: Node, of column: String, in map: YAMLMap) throws -> [String] {
    let name = map.name(column)
    if node.sequence != nil { return try map.strings(node, name: name).value }
    let keys = try map.string(node, name: name).value
      .split(separator: ".", omittingEmptySubsequences: false)
    guard keys.allSatisfy({ !$0.isEmpty }) else {
      throw map.wrongType(name, node, "a path such as geo.coordinates")
    }
    return keys.map(String.init)
  }
}
