package import Yams

/// A mapping of the file, read key by key. Every complaint names the file, the line and the key.
package struct YAMLMap {
  package let file: String
  /// Where in the file it stands: `datasets.posts`; empty at the top.
  package let path: String
  package let line: Int
  private let pairs: [(key: String, line: Int, value: Node)]

  /// - Parameter keys: those that may stand in it; nil where the file chooses them.
  package init(_ node: Node, file: String, path: String, keys: [String]?) throws {
    self.file = file
    self.path = path
    line = node.mark?.line ?? 1
    guard let mapping = node.mapping else {
      throw DefinitionError(
        file: file, line: line,
        message: "\(path.isEmpty ? "the definition" : path) is not a mapping",
        remedy: "write it as key: value lines")
    }
    pairs = mapping.map { ($0.key.string ?? "", $0.key.mark?.line ?? 1, $0.value) }
    guard let keys else { return }
    for pair in pairs where !keys.contains(pair.key) {
      throw DefinitionError(
        file: file, line: pair.line, message: "unknown key \(Self.join(path, pair.key))",
        remedy: Self.suggestion(for: pair.key, among: keys))
    }
  }

  package var entries: [(key: Located<String>, value: Node)] {
    pairs.map { (Located(value: $0.key, line: $0.line), $0.value) }
  }

  package func node(_ key: String) -> Node? {
    pairs.first { $0.key == key }?.value
  }

  package func requiredNode(_ key: String) throws -> Node {
    guard let node = node(key) else {
      throw DefinitionError(
        file: file, line: line, message: "\(name(key)) is missing",
        remedy: "add \(key): to \(path.isEmpty ? "the definition" : path)")
    }
    return node
  }

  package func map(_ key: String, keys: [String]?) throws -> YAMLMap? {
    try node(key).map { try YAMLMap($0, file: file, path: name(key), keys: keys) }
  }

  package func string(_ key: String) throws -> Located<String>? {
    try node(key).map { try string($0, name: name(key)) }
  }

  package func requiredString(_ key: String) throws -> Located<String> {
    try string(requiredNode(key), name: name(key))
  }

  package func integer(_ key: String) throws -> Located<Int>? {
    try number(key, "a whole number") { Int($0.filter { $0 != "_" }) }
  }

  package func double(_ key: String) throws -> Located<Double>? {
    try number(key, "a number") { Double($0) }
  }

  package func bool(_ key: String) throws -> Located<Bool>? {
    try number(key, "true or false") { ["true": true, "false": false][$0] }
  }

  package func strings(_ key: String) throws -> Located<[String]>? {
    guard let node = node(key) else { return nil }
    return try strings(node, name: name(key))
  }

  package func strings(_ node: Node, name: String) throws -> Located<[String]> {
    guard let sequence = node.sequence, !sequence.isEmpty else {
      throw wrongType(name, node, "a list such as [a, b]")
    }
    return Located(
      value: try sequence.map { try string($0, name: name).value }, line: node.mark?.line ?? line)
  }

  package func string(_ node: Node, name: String) throws -> Located<String> {
    guard let scalar = node.scalar, !Self.isNull(node), !scalar.string.isEmpty else {
      throw wrongType(name, node, "a text")
    }
    return Located(value: scalar.string, line: node.mark?.line ?? line)
  }

  package func name(_ key: String) -> String { Self.join(path, key) }

  package func wrongType(_ name: String, _ node: Node, _ expected: String) -> DefinitionError {
    DefinitionError(
      file: file, line: node.mark?.line ?? line, message: "\(name) is not \(expected)",
      remedy: "write \(expected) there")
  }

  /// Nothing, `~` or `null`, outside quotes.
  package static func isNull(_ node: Node) -> Bool {
    guard let scalar = node.scalar, scalar.style == .plain || scalar.style == .any else {
      return false
    }
    return ["", "~", "null"].contains(scalar.string)
  }

  private func number<Value>(
    _ key: String, _ expected: String, _ parse: (String) -> Value?
  ) throws -> Located<Value>? {
    guard let node = node(key) else { return nil }
    guard let text = node.scalar?.string, let value = parse(text) else {
      throw wrongType(name(key), node, expected)
    }
    return Located(value: value, line: node.mark?.line ?? line)
  }

  private static func join(_ path: String, _ key: String) -> String {
    path.isEmpty ? key : "\(path).\(key)"
  }

  private static func suggestion(for key: String, among keys: [String]) -> String {
    let all = "known keys here: \(keys.joined(separator: ", "))"
    return nearest(to: key, among: keys).map { "did you mean \($0)? \(all)" } ?? all
  }

  /// The word that was probably meant by another one.
  package static func nearest(to word: String, among words: [String]) -> String? {
    guard let nearest = words.min(by: { distance($0, word) < distance($1, word) }),
      distance(nearest, word) <= max(2, word.count / 3)
    else { return nil }
    return nearest
  }

  /// Levenshtein's.
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

  // MARK: The text

  /// - Parameter remedy: what to write if there is nothing.
  package static func compose(
    _ yaml: String, file: String, whenEmpty remedy: String
  ) throws -> Node {
    do {
      if let node = try Yams.compose(yaml: yaml) { return node }
    } catch let error as YamlError {
      let (line, problem) = describe(error)
      throw DefinitionError(
        file: file, line: line, message: "not YAML: \(problem)",
        remedy: "check indentation, colons and quotes around this line")
    }
    throw DefinitionError(
      file: file, line: 1, message: "the definition is empty", remedy: remedy)
  }

  private static func describe(_ error: YamlError) -> (line: Int?, problem: String) {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      (mark.line, problem)
    case .duplicatedKeysInMapping(let duplicates, let context):
      (context.mark.line, "the key \(duplicates.joined(separator: ", ")) stands twice")
    case .reader(let problem, _, _, _): (nil, problem)
    default: (nil, "\(error)")
    }
  }
}
