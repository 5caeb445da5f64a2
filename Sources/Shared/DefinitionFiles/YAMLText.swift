package import Yams

/// Parses a definition or a fault plan, and resolves YAML's own features: aliases, merges (`<<`) and duplicate keys.
///
/// A value from an alias keeps the line of its anchor, because that is where to correct it.
package struct YAMLText {
  private let mistakes: Mistakes
  private var nodes = 0

  /// A limit against exponential growth by aliases of aliases. No real definition has this many values.
  private static let nodesMax = 100_000
  private static let duplicatesMax = 50
  /// Marks a key that is repeated later. A private-use character does not occur in definitions.
  private static let mark: Character = "\u{E000}"

  private struct TooManyValues: Error {}

  /// - Parameter remedy: the remedy for an empty file.
  /// - Returns: nil if the text is empty, is not YAML or has too many values; the mistake is noted.
  package static func compose(
    _ yaml: String, whenEmpty remedy: String, _ mistakes: Mistakes
  ) -> Node? {
    do {
      guard let root = try markingDuplicates(yaml) else {
        mistakes.note(1, "the definition is empty", remedy)
        return nil
      }
      var text = YAMLText(mistakes: mistakes)
      return try text.resolved(root)
    } catch let error as YamlError {
      let (line, problem) = describe(error)
      mistakes.note(
        line, "not YAML: \(problem)", "check indentation, colons and quotes around this line")
    } catch {
      mistakes.note(
        nil, "the aliases expand to more than \(nodesMax) values", "use fewer aliases of aliases")
    }
    return nil
  }

  private init(mistakes: Mistakes) {
    self.mistakes = mistakes
  }

  private static func describe(_ error: YamlError) -> (line: Int?, problem: String) {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      (mark.line, problem)
    case .duplicatedKeysInMapping(let duplicates, let context):
      (context.mark.line, "the key \(duplicates.joined(separator: ", ")) appears twice")
    case .reader(let problem, _, _, _): (nil, problem)
    default: (nil, "\(error)")
    }
  }

  // MARK: Duplicate keys

  /// The parser stops at a duplicate key. So the first of the two keys is marked in the text, and the text is parsed
  /// again. `resolved` finds the mark, notes the mistake and drops the key.
  private static func markingDuplicates(_ yaml: String) throws -> Node? {
    var text = yaml
    for number in 1... {
      do {
        return try Yams.compose(yaml: text)
      } catch let error as YamlError {
        guard case .duplicatedKeysInMapping(let keys, let context) = error,
          number <= duplicatesMax, let key = keys.first,
          let marked = marking(key, at: context.mark, in: text, number)
        else { throw error }
        text = marked
      }
    }
    return nil
  }

  /// - Returns: nil if the key is not plainly written at the position, for example if it has a tag.
  private static func marking(
    _ key: String, at mark: Mark, in text: String, _ number: Int
  ) -> String? {
    var scalars = Array(text.unicodeScalars)
    guard var index = scalars.index(ofLine: mark.line, column: mark.column) else { return nil }
    if scalars[index] == "\"" || scalars[index] == "'" { index += 1 }
    guard scalars[index...].starts(with: key.unicodeScalars) else { return nil }
    scalars.insert(contentsOf: "\(Self.mark)\(number)\(Self.mark)".unicodeScalars, at: index)
    return String(String.UnicodeScalarView(scalars))
  }

  // MARK: Aliases and merges

  private mutating func resolved(_ node: Node) throws -> Node {
    nodes += 1
    guard nodes <= Self.nodesMax else { throw TooManyValues() }
    switch node {
    case .mapping(let mapping): return .mapping(try resolved(mapping))
    case .sequence(let sequence):
      return .sequence(
        .init(try sequence.map { try resolved($0) }, sequence.tag, sequence.style, sequence.mark))
    case .scalar, .alias: return node
    }
  }

  private mutating func resolved(_ mapping: Node.Mapping) throws -> Node.Mapping {
    noteDuplicates(of: mapping)
    let own = mapping.filter { !Self.isMerge($0.key) && !Self.isMarked($0.key) }
    var known = Set(own.map(\.key))
    var pairs: [(Node, Node)] = []
    for (key, value) in mapping where !Self.isMarked(key) {
      guard Self.isMerge(key) else {
        pairs.append((key, try resolved(value)))
        continue
      }
      for (key, value) in try merged(value, of: key) where known.insert(key).inserted {
        pairs.append((key, value))
      }
    }
    return Node.Mapping(pairs, mapping.tag, mapping.style, mapping.mark)
  }

  /// The keys that `<<` merges: those of one mapping or of several. The first mapping takes precedence.
  private mutating func merged(_ value: Node, of key: Node) throws -> [(Node, Node)] {
    let parts = value.sequence.map(Array.init) ?? [value]
    guard !parts.isEmpty, parts.allSatisfy({ $0.mapping != nil }) else {
      mistakes.note(
        key.mark?.line, "<< merges a value that is not a mapping",
        "write <<: *anchor, or <<: [*anchor, *other], where each anchor marks a mapping")
      return []
    }
    return try parts.flatMap { part in
      try resolved(part).mapping.map { $0.map { ($0.key, $0.value) } } ?? []
    }
  }

  private func noteDuplicates(of mapping: Node.Mapping) {
    for (key, _) in mapping where Self.isMarked(key) {
      let name = String(key.string?.split(separator: Self.mark).last ?? "")
      let last = Array(mapping).last { !Self.isMarked($0.key) && $0.key.string == name }?.key
      mistakes.note(
        last?.mark?.line, "the key \(name) appears twice: also on line \(key.mark?.line ?? 1)",
        name == "<<" ? "write <<: [*one, *other]" : "keep one of them")
    }
  }

  private static func isMerge(_ key: Node) -> Bool {
    key.scalar.map { $0.string == "<<" && $0.style == .plain } ?? false
  }

  private static func isMarked(_ key: Node) -> Bool {
    key.scalar?.string.first == mark
  }
}

extension [Unicode.Scalar] {
  /// The index of a position. Yams counts lines and columns from 1.
  fileprivate func index(ofLine line: Int, column: Int) -> Int? {
    var (index, current) = (startIndex, 1)
    while current < line, index < endIndex {
      // CR, LF, NEL, LS and PS end a line; CR LF counts as one.
      let isBreak = ["\r", "\n", "\u{85}", "\u{2028}", "\u{2029}"].contains(self[index])
      let isPair = self[index] == "\r" && index + 1 < endIndex && self[index + 1] == "\n"
      index += isPair ? 2 : 1
      if isBreak { current += 1 }
    }
    index += column - 1
    return current == line && index < endIndex ? index : nil
  }
}
