internal import DefinitionFiles
internal import Yams

/// `id: post_id`, or `id: {column: post_id, normalize: digits}`; the same of `match`.
struct WrittenIDSource {
  let column: Located<String>
  let normalize: Located<String>?

  var line: Int { column.line }

  static func required(_ key: String, in map: YAMLMap) throws -> WrittenIDSource {
    try WrittenIDSource(map.requiredNode(key), key, in: map)
  }

  static func optional(_ key: String, in map: YAMLMap) throws -> WrittenIDSource? {
    try map.node(key).map { try WrittenIDSource($0, key, in: map) }
  }

  private init(_ node: Node, _ key: String, in map: YAMLMap) throws {
    guard node.mapping != nil else {
      column = try map.string(node, name: map.name(key))
      normalize = nil
      return
    }
    let source = try YAMLMap(
      node, file: map.file, path: map.name(key), keys: ["column", "normalize"])
    column = try source.requiredString("column")
    normalize = try source.string("normalize")
  }
}

extension Resolver {
  func idSource(_ written: WrittenIDSource) throws -> IDSource {
    IDSource(
      column: try filled(written.column),
      normalization: try written.normalize.map { word in
        let filledWord = try filled(word)
        guard let known = IDNormalization(rawValue: filledWord) else {
          throw fault(
            word.line, "unknown normalize: \(filledWord)",
            "write normalize: digits, which takes blanks off and zeros in front, or leave it out")
        }
        return known
      })
  }
}
