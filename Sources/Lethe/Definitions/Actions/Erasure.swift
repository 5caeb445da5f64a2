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

  /// - Returns: nil if it is none, which is noted.
  init?(_ node: Node, in map: YAMLMap, reason: String) {
    let path = map.name(reason)
    guard node.mapping != nil else {
      guard node.scalar != nil, !YAMLMap.isNull(node) else {
        map.note(
          node.mark?.line ?? map.line, "\(path) is mapped to nothing",
          "give it an action, such as delete; ignore says that nothing is to be done")
        return nil
      }
      guard let word = map.string(node, name: path) else { return nil }
      self = .word(word)
      return
    }
    guard let action = YAMLMap(node, path: path, keys: .fixed(Self.keys), map.mistakes) else {
      return nil
    }
    guard action.entries.count == 1, let word = action.entries.first?.key.value else {
      action.noteWrongType(path, node, "one action")
      return nil
    }
    guard let written = Self.action(word, in: action) else { return nil }
    self = written
  }

  private static func action(_ word: String, in action: YAMLMap) -> WrittenAction? {
    switch word {
    case "protect":
      let protect = action.requiredMap(word, keys: .fixed(["set", "restore"]))
      let set = protect.flatMap { columns($0, "set") }
      let restore = protect.flatMap { protect in
        protect.node("restore").flatMap { WrittenRestore($0, in: protect) }
      }
      return set.map { .protect(set: $0, restore: restore) }
    case "rehydrate":
      return action.requiredMap(word, keys: .fixed(["set"]))
        .flatMap { columns($0, "set") }.map { .rehydrate(set: $0) }
    case "scrub_geo": return erasure(action, word).map { .scrubGeo($0) }
    case "redact": return erasure(action, word).map { .redact($0) }
    default: return nil  // unknown, and noted
    }
  }

  private static func columns(_ map: YAMLMap, _ key: String) -> [ColumnValue]? {
    guard let node = map.requiredNode(key),
      let columns = YAMLMap(node, path: map.name(key), keys: .names, map.mistakes)
    else { return nil }
    guard !columns.entries.isEmpty else {
      return columns.wrongType(columns.path, node, "{column: value, …}")
    }
    let values = columns.entries.map { name, node in value(node, of: name.value, in: columns) }
    return values.contains(nil) ? nil : values.compactMap { $0 }
  }

  static func value(_ node: Node, of column: String, in map: YAMLMap) -> ColumnValue? {
    if YAMLMap.isNull(node) { return ColumnValue(column: column, value: nil) }
    guard let scalar = node.scalar else {
      return map.wrongType(map.name(column), node, "a single value")
    }
    return ColumnValue(column: column, value: scalar.string)
  }

  // MARK: What is taken out of a row

  /// A list of columns that become NULL, or a mapping: a column and null, a value, or the paths to cut
  /// out of its JSON.
  private static func erasure(_ action: YAMLMap, _ word: String) -> Located<Erasure>? {
    guard let node = action.requiredNode(word) else { return nil }
    let path = action.name(word)
    let line = node.mark?.line ?? action.line
    guard node.mapping != nil else {
      return action.strings(node, name: path).map { names in
        Located(
          value: Erasure(set: names.value.map { ColumnValue(column: $0, value: nil) }), line: line)
      }
    }
    guard let columns = YAMLMap(node, path: path, keys: .names, action.mistakes) else { return nil }
    var set: [ColumnValue?] = []
    var cut: [JSONCut?] = []
    for (name, node) in columns.entries {
      if node.sequence != nil {
        cut.append(self.cut(node, of: name.value, in: columns))
      } else {
        set.append(value(node, of: name.value, in: columns))
      }
    }
    guard !set.isEmpty || !cut.isEmpty else {
      return columns.wrongType(path, node, "a list of columns, or {column: value, …}")
    }
    guard !set.contains(nil), !cut.contains(nil) else { return nil }
    return Located(
      value: Erasure(set: set.compactMap { $0 }, cut: cut.compactMap { $0 }), line: line)
  }

  private static func cut(_ node: Node, of column: String, in map: YAMLMap) -> JSONCut? {
    guard let paths = node.sequence, !paths.isEmpty else {
      return map.wrongType(map.name(column), node, "a list of paths")
    }
    let read = paths.map { path($0, of: column, in: map) }
    return read.contains(nil) ? nil : JSONCut(column: column, paths: read.compactMap { $0 })
  }

  /// `place`, `geo.coordinates`, or `[a key, another.key]` where a key has a dot in it.
  private static func path(_ node: Node, of column: String, in map: YAMLMap) -> [String]? {
    let name = map.name(column)
    if node.sequence != nil { return map.strings(node, name: name)?.value }
    guard let text = map.string(node, name: name)?.value else { return nil }
    let keys = text.split(separator: ".", omittingEmptySubsequences: false)
    guard keys.allSatisfy({ !$0.isEmpty }) else {
      return map.wrongType(name, node, "a path such as geo.coordinates")
    }
    return keys.map(String.init)
  }
}
