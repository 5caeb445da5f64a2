/// A parser of one line's bytes. `readObject` and `readValue` return nil on success, otherwise the cause of
/// the failure.
struct JSONCursor {
  private let bytes: UnsafeRawBufferPointer
  private var index = 0
  /// The deepest nesting that is accepted, more than any result has. Deeper values are refused, because
  /// recursion could overflow the stack.
  private static let depthMax = 16

  init(_ bytes: UnsafeRawBufferPointer) {
    self.bytes = bytes
  }

  var isAtEnd: Bool { index >= bytes.count }

  /// Whether the line is valid UTF-8. ASCII is checked eight bytes at a time, for speed.
  var isValidUTF8: Bool {
    var offset = 0
    while offset + 8 <= bytes.count {
      let word = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      if word & 0x8080_8080_8080_8080 != 0 {
        return String(validating: bytes, as: UTF8.self) != nil
      }
      offset += 8
    }
    return bytes[offset...].allSatisfy { $0 < 0x80 }
      || String(validating: bytes, as: UTF8.self) != nil
  }

  mutating func skipWhitespace() {
    while index < bytes.count {
      switch bytes[index] {
      case 0x20, 0x09, 0x0A, 0x0D: index += 1
      default: return
      }
    }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard index < bytes.count, bytes[index] == byte else { return false }
    index += 1
    return true
  }

  mutating func readObject(into fields: inout Fields) -> String? {
    guard take(UInt8(ascii: "{")) else { return "not a JSON object" }
    skipWhitespace()
    if take(UInt8(ascii: "}")) { return nil }
    while true {
      skipWhitespace()
      guard let name = readString() else { return "malformed JSON: a key is not a string" }
      skipWhitespace()
      guard take(UInt8(ascii: ":")) else { return "malformed JSON: no colon after a key" }
      skipWhitespace()
      if let fault = readValue(of: name, into: &fields) { return fault }
      skipWhitespace()
      if take(UInt8(ascii: ",")) { continue }
      return take(UInt8(ascii: "}")) ? nil : "malformed JSON: the object does not end"
    }
  }

  private mutating func readValue(of name: JSONText, into fields: inout Fields) -> String? {
    guard let key = Self.key(name) else {
      return skipValue(depth: 0) ? nil : "malformed JSON: a value is not well formed"
    }
    guard fields.claim(key) else { return "the key \(name.text) appears twice" }
    if let text = readString() {
      fields.set(key, text)
      return nil
    }
    let start = index
    guard skipValue(depth: 0) else { return "malformed JSON: a value is not well formed" }
    let value = UnsafeRawBufferPointer(rebasing: bytes[start..<index])
    if value.elementsEqual("null".utf8) { return nil }
    // An ID may be a JSON number of digits only. A number with a fraction or an exponent could have lost digits.
    if key == .id, value.allSatisfy({ $0 &- 0x30 < 10 }) {
      fields.set(key, JSONText(bytes: value, hasEscapes: false))
      return nil
    }
    return "\(name.text) is not a string"
  }

  private static func key(_ name: JSONText) -> Fields.Key? {
    if name.hasEscapes {  // Rare, but a valid form of the same key.
      var text = name.text
      return text.withUTF8 {
        key(JSONText(bytes: UnsafeRawBufferPointer($0), hasEscapes: false))
      }
    }
    switch name.bytes.count {
    case 2: return name.equals("id") ? .id : nil
    case 5: return name.equals("error") ? .error : nil
    case 6:
      if name.equals("action") { return .action }
      return name.equals("reason") ? .reason : nil
    case 10:
      if name.equals("created_at") { return .createdAt }
      return name.equals("deleted_at") ? .deletedAt : nil
    case 11: return name.equals("redacted_at") ? .redactedAt : nil
    default: return nil
    }
  }

  /// The string at the cursor. Nil, without moving the cursor, if there is none or it is malformed.
  private mutating func readString() -> JSONText? {
    guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { return nil }
    let start = index + 1
    var position = start
    var hasEscapes = false
    while position < bytes.count {
      let byte = bytes[position]
      if byte == UInt8(ascii: "\"") {
        index = position + 1
        return JSONText(
          bytes: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), hasEscapes: hasEscapes)
      }
      if byte < 0x20 { return nil }
      if byte == UInt8(ascii: "\\") {
        guard let length = escapeLength(at: position) else { return nil }
        hasEscapes = true
        position += length
      } else {
        position += 1
      }
    }
    return nil
  }

  private func escapeLength(at position: Int) -> Int? {
    guard position + 1 < bytes.count else { return nil }
    switch bytes[position + 1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
      UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      return 2
    case UInt8(ascii: "u"):
      guard position + 6 <= bytes.count else { return nil }
      let digits = bytes[(position + 2)..<(position + 6)]
      return digits.allSatisfy { Character(Unicode.Scalar($0)).isHexDigit } ? 6 : nil
    default: return nil
    }
  }

  /// Skips one well-formed value of any kind.
  private mutating func skipValue(depth: Int) -> Bool {
    guard index < bytes.count, depth < Self.depthMax else { return false }
    switch bytes[index] {
    case UInt8(ascii: "\""): return readString() != nil
    case UInt8(ascii: "{"):
      return skipMembers(closing: UInt8(ascii: "}"), depth: depth) { cursor in
        guard cursor.readString() != nil else { return false }
        cursor.skipWhitespace()
        guard cursor.take(UInt8(ascii: ":")) else { return false }
        cursor.skipWhitespace()
        return cursor.skipValue(depth: depth + 1)
      }
    case UInt8(ascii: "["):
      return skipMembers(closing: UInt8(ascii: "]"), depth: depth) { cursor in
        cursor.skipValue(depth: depth + 1)
      }
    case UInt8(ascii: "t"): return takeWord("true")
    case UInt8(ascii: "f"): return takeWord("false")
    case UInt8(ascii: "n"): return takeWord("null")
    default: return skipNumber()
    }
  }

  private mutating func skipMembers(
    closing: UInt8, depth: Int, _ member: (inout JSONCursor) -> Bool
  ) -> Bool {
    index += 1
    skipWhitespace()
    if take(closing) { return true }
    while true {
      skipWhitespace()
      guard member(&self) else { return false }
      skipWhitespace()
      if take(UInt8(ascii: ",")) { continue }
      return take(closing)
    }
  }

  private mutating func takeWord(_ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    guard index + count <= bytes.count,
      (0..<count).allSatisfy({ bytes[index + $0] == word.utf8Start[$0] })
    else { return false }
    index += count
    return true
  }

  /// Skips a number of RFC 8259: a minus sign, an integer without leading zeros, a fraction, an exponent.
  private mutating func skipNumber() -> Bool {
    _ = take(UInt8(ascii: "-"))
    if take(UInt8(ascii: "0")) {
      if index < bytes.count, bytes[index] &- 0x30 < 10 { return false }
    } else if skipDigits() == 0 {
      return false
    }
    if take(UInt8(ascii: ".")), skipDigits() == 0 { return false }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      if skipDigits() == 0 { return false }
    }
    return true
  }

  private mutating func skipDigits() -> Int {
    let start = index
    while index < bytes.count, bytes[index] &- 0x30 < 10 { index += 1 }
    return index - start
  }
}
