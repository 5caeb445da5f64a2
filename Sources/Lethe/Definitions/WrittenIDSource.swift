internal import DefinitionFiles
internal import Yams

/// An `id` or `match` as the file contains it: `id: post_id`, or `id: {column: post_id, normalize: digits}`.
struct WrittenIDSource {
  let column: Located<String>
  let normalize: Located<String>?

  var line: Int { column.line }

  static func required(_ key: String, in map: YAMLMap) -> WrittenIDSource? {
    map.requiredNode(key).flatMap { WrittenIDSource($0, key, in: map) }
  }

  static func optional(_ key: String, in map: YAMLMap) -> WrittenIDSource? {
    map.node(key).flatMap { WrittenIDSource($0, key, in: map) }
  }

  private init?(_ node: Node, _ key: String, in map: YAMLMap) {
    guard node.mapping != nil else {
      guard let column = map.string(node, name: map.name(key)) else { return nil }
      self.column = column
      normalize = nil
      return
    }
    guard
      let source = YAMLMap(
        node, path: map.name(key), keys: .fixed(["column", "normalize"]), map.mistakes)
    else { return nil }
    normalize = source.string("normalize")
    guard let column = source.requiredString("column") else { return nil }
    self.column = column
  }
}

extension Resolver {
  func idSource(_ written: WrittenIDSource) -> IDSource? {
    let column = filled(written.column)
    let normalization = written.normalize.flatMap(normalization)
    return column.map { IDSource(column: $0, normalization: normalization) }
  }

  private func normalization(_ word: Located<String>) -> IDNormalization? {
    guard let text = filled(word) else { return nil }
    return IDNormalization(rawValue: text)
      ?? fault(
        word.line, "unknown normalize: \(text)",
        "write normalize: digits, which removes outer spaces and leading zeros, or leave it out")
  }
}
