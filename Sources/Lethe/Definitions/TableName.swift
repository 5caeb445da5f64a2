import SQLText

/// A table's name. Without a schema, PostgreSQL finds the table by `search_path`.
public struct TableName: Sendable, Hashable, Codable, CustomStringConvertible {
  public let schema: String?
  public let name: String

  public init(schema: String?, name: String) {
    self.schema = schema
    self.name = name
  }

  /// Reads `schema.table` or `table`. A part in double quotes can contain any characters, with double quotes doubled.
  /// Upper and lower case are kept.
  public init?(_ text: String) {
    var parts: [String] = []
    var rest = text[...]
    while true {
      guard let part = Self.takePart(&rest) else { return nil }
      parts.append(part)
      if rest.isEmpty { break }
      guard rest.removeFirst() == "." else { return nil }
    }
    switch parts.count {
    case 1: self.init(schema: nil, name: parts[0])
    case 2: self.init(schema: parts[0], name: parts[1])
    default: return nil
    }
  }

  private static func takePart(_ text: inout Substring) -> String? {
    guard text.first == "\"" else {
      let part = text.prefix { $0 != "." }
      text = text[part.endIndex...]
      return part.isEmpty || part.contains("\"") || part.contains(where: \.isWhitespace)
        ? nil : String(part)
    }
    text.removeFirst()
    var part = ""
    while let character = text.popFirst() {
      if character != "\"" {
        part.append(character)
      } else if text.first == "\"" {
        part.append(text.removeFirst())
      } else {
        return part.isEmpty ? nil : part
      }
    }
    return nil
  }

  /// The name as SQL, with each part quoted.
  public var quoted: String {
    (schema.map { Identifier($0).quoted + "." } ?? "") + Identifier(name).quoted
  }

  /// The text that `init(_:)` reads.
  public var written: String {
    [schema, name].compactMap { $0 }.map(Self.written).joined(separator: ".")
  }

  private static func written(_ part: String) -> String {
    let isPlain = part.utf8.allSatisfy {
      (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
        || $0 == 0x5F
    }
    return isPlain ? part : "\"" + part.replacing("\"", with: "\"\"") + "\""
  }

  public var description: String {
    (schema.map { "\($0)." } ?? "") + name
  }
}
