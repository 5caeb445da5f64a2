internal import SQLText

/// The encoding of a parameter for libpq.
extension Parameter {
  /// Replaces characters of `prose` that the database's encoding may not support.
  func escapingUnsupported(in encoding: ServerEncoding) -> Parameter {
    switch self {
    case .prose(let value): .text(encoding.escapingUnsupported(value))
    case .proses(let values): .texts(values.map(encoding.escapingUnsupported))
    case .null, .integer, .double, .bool, .text, .bytes, .integers, .texts: self
    }
  }

  var isBinary: Bool {
    if case .bytes = self { true } else { false }
  }

  var hasZeroByteInText: Bool {
    switch self {
    case .text(let value), .prose(let value): value.utf8.contains(0)
    case .texts(let values), .proses(let values): values.contains { $0.utf8.contains(0) }
    case .null, .integer, .double, .bool, .bytes, .integers: false
    }
  }

  /// The bytes to send; a text ends with the zero byte that libpq requires. Nil for NULL.
  var encoded: [UInt8]? {
    switch self {
    case .null: nil
    case .integer(let value): Self.terminated("\(value)")
    case .double(let value): Self.terminated("\(value)")
    case .bool(let value): Self.terminated(value ? "t" : "f")
    case .text(let value), .prose(let value): Self.terminated(value)
    case .bytes(let value): value
    case .integers(let values):
      Self.terminated("{" + values.map(String.init).joined(separator: ",") + "}")
    case .texts(let values), .proses(let values):
      Self.terminated("{" + values.map(Self.arrayElement).joined(separator: ",") + "}")
    }
  }

  private static func terminated(_ text: String) -> [UInt8] {
    Array(text.utf8) + [0]
  }

  private static func arrayElement(_ text: String) -> String {
    var element = "\""
    for character in text.unicodeScalars {
      if character == "\"" || character == "\\" { element.unicodeScalars.append("\\") }
      element.unicodeScalars.append(character)
    }
    return element + "\""
  }
}
