package import Yams

/// A YAML mapping that is read key by key. A mistake is noted with file, line and key, and the value is nil.
package struct YAMLMap {
  /// The keys that a mapping may have.
  package enum Keys {
    case fixed([String])
    /// Any keys except those that start with `x-`. The caller checks them.
    case checkedByCaller
    /// Any names, such as columns' names, also those that start with `x-`.
    case names
  }

  /// The path of keys to this mapping, such as `datasets.posts`. Empty at the top.
  package let path: String
  package let line: Int
  package let mistakes: Mistakes
  private let pairs: [(key: String, line: Int, value: Node)]
  /// Unknown keys. One of them may be a misspelling of a missing key.
  private let unknown: [String]

  /// Ignores keys that start with `x-`, because they can contain anchors. With `.names`, no key is ignored.
  package init?(_ node: Node, path: String, keys: Keys, _ mistakes: Mistakes) {
    self.path = path
    self.mistakes = mistakes
    line = node.mark?.line ?? 1
    guard let mapping = node.mapping else {
      mistakes.note(
        line, "\(path.isEmpty ? "the definition" : path) is not a mapping",
        "write it as key: value lines")
      return nil
    }
    let pairs = mapping.map { ($0.key.string ?? "", $0.key.mark?.line ?? 1, $0.value) }
    switch keys {
    case .names:
      self.pairs = pairs
      unknown = []
    case .checkedByCaller:
      self.pairs = pairs.filter { !$0.0.hasPrefix("x-") }
      unknown = []
    case .fixed(let known):
      self.pairs = pairs.filter { !$0.0.hasPrefix("x-") }
      let others = self.pairs.filter { !known.contains($0.key) }
      unknown = others.map(\.key)
      for other in others {
        mistakes.note(
          other.line, "unknown key \(Self.join(path, other.key))",
          Self.suggestion(for: other.key, among: known))
      }
    }
  }

  package var entries: [(key: Located<String>, value: Node)] {
    pairs.map { (Located(value: $0.key, line: $0.line), $0.value) }
  }

  package func node(_ key: String) -> Node? {
    pairs.first { $0.key == key }?.value
  }

  /// Whether the mapping has the key or a probable misspelling of it.
  package func has(_ key: String) -> Bool {
    node(key) != nil || unknown.contains { Self.nearest(to: $0, among: [key]) != nil }
  }

  package func requiredNode(_ key: String) -> Node? {
    if let node = node(key) { return node }
    if !has(key) {
      note(
        line, "\(name(key)) is missing",
        "add \(key): to \(path.isEmpty ? "the definition" : path)")
    }
    return nil
  }

  package func map(_ key: String, keys: Keys) -> YAMLMap? {
    node(key).flatMap { YAMLMap($0, path: name(key), keys: keys, mistakes) }
  }

  package func requiredMap(_ key: String, keys: Keys) -> YAMLMap? {
    requiredNode(key).flatMap { YAMLMap($0, path: name(key), keys: keys, mistakes) }
  }

  package func string(_ key: String) -> Located<String>? {
    node(key).flatMap { string($0, name: name(key)) }
  }

  package func requiredString(_ key: String) -> Located<String>? {
    requiredNode(key).flatMap { string($0, name: name(key)) }
  }

  package func integer(_ key: String) -> Located<Int>? {
    scalar(key, "a whole number") { Int($0.filter { $0 != "_" }) }
  }

  package func double(_ key: String) -> Located<Double>? {
    scalar(key, "a number") { Double($0) }
  }

  package func bool(_ key: String) -> Located<Bool>? {
    scalar(key, "true or false") { ["true": true, "false": false][$0] }
  }

  package func strings(_ key: String) -> Located<[String]>? {
    node(key).flatMap { strings($0, name: name(key)) }
  }

  package func strings(_ node: Node, name: String) -> Located<[String]>? {
    guard let sequence = node.sequence, !sequence.isEmpty else {
      return wrongType(name, node, "a list such as [a, b]")
    }
    let texts = sequence.map { string($0, name: name)?.value }
    guard !texts.contains(nil) else { return nil }
    return Located(value: texts.compactMap { $0 }, line: node.mark?.line ?? line)
  }

  package func string(_ node: Node, name: String) -> Located<String>? {
    guard let scalar = node.scalar, !Self.isNull(node), !scalar.string.isEmpty else {
      return wrongType(name, node, "a string")
    }
    return Located(value: scalar.string, line: node.mark?.line ?? line)
  }

  package func name(_ key: String) -> String { Self.join(path, key) }

  package func noteWrongType(_ name: String, _ node: Node, _ expected: String) {
    note(node.mark?.line ?? line, "\(name) is not \(expected)", "write \(expected) there")
  }

  /// Notes the mistake.
  /// - Returns: nil, in place of the value.
  package func wrongType<Value>(_ name: String, _ node: Node, _ expected: String) -> Value? {
    noteWrongType(name, node, expected)
    return nil
  }

  package func note(_ line: Int, _ message: String, _ remedy: String) {
    mistakes.note(line, message, remedy)
  }

  /// Whether a value is empty, `~` or `null`, without quotes.
  package static func isNull(_ node: Node) -> Bool {
    guard let scalar = node.scalar, scalar.style == .plain || scalar.style == .any else {
      return false
    }
    return ["", "~", "null"].contains(scalar.string)
  }

  private func scalar<Value>(
    _ key: String, _ expected: String, _ parse: (String) -> Value?
  ) -> Located<Value>? {
    guard let node = node(key) else { return nil }
    guard let text = node.scalar?.string, let value = parse(text) else {
      return wrongType(name(key), node, expected)
    }
    return Located(value: value, line: node.mark?.line ?? line)
  }

  /// A key as messages show it. An empty key is shown as two quotes.
  package static func shown(_ key: String) -> String { key.isEmpty ? "\"\"" : key }

  private static func join(_ path: String, _ key: String) -> String {
    path.isEmpty ? shown(key) : "\(path).\(shown(key))"
  }

  private static func suggestion(for key: String, among keys: [String]) -> String {
    let all = "known keys here: \(keys.joined(separator: ", "))"
    return nearest(to: key, among: keys).map { "did you mean \($0)? \(all)" } ?? all
  }

  /// The known word that `word` probably misspells.
  package static func nearest(to word: String, among words: [String]) -> String? {
    guard let nearest = words.min(by: { distance($0, word) < distance($1, word) }),
      distance(nearest, word) <= max(2, word.count / 3),
      distance(nearest, word) < min(nearest.count, word.count)
    else { return nil }
    return nearest
  }

  /// Levenshtein distance.
  private static func distance(_ first: String, _ second: String) -> Int {
    let second = Array(second)
    var row = Array(0...second.count)
    for (index, character) in first.enumerated() {
      var diagonal = row[0]
      row[0] = index + 1
      for column in second.indices {
        let substituted = diagonal + (second[column] == character ? 0 : 1)
        diagonal = row[column + 1]
        row[column + 1] = min(substituted, row[column] + 1, row[column + 1] + 1)
      }
    }
    return row[second.count]
  }
}
