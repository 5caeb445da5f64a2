import Vocabulary

/// A JSON string or number, as a range of the line's bytes.
struct JSONText {
  let bytes: UnsafeRawBufferPointer
  let hasEscapes: Bool

  /// The value's text with escapes resolved.
  var text: String {
    hasEscapes ? unescaped : String(decoding: bytes, as: UTF8.self)
  }

  /// The value as an ID: an integer from 1 to 9223372036854775807, written with at most 19 digits.
  var identifier: Int64? {
    if hasEscapes {
      var text = unescaped
      return text.withUTF8 {
        JSONText(bytes: UnsafeRawBufferPointer($0), hasEscapes: false).identifier
      }
    }
    guard (1...19).contains(bytes.count) else { return nil }
    var value: UInt64 = 0
    for byte in bytes {
      let digit = byte &- 0x30
      guard digit < 10 else { return nil }
      value = value &* 10 &+ UInt64(digit)
    }
    guard value > 0, value <= UInt64(Int64.max) else { return nil }
    return Int64(value)
  }

  var timestamp: Timestamp? {
    hasEscapes ? Timestamp(unescaped) : Timestamp(bytes)
  }

  func equals(_ literal: StaticString) -> Bool {
    guard bytes.count == literal.utf8CodeUnitCount, !hasEscapes else { return false }
    return (0..<bytes.count).allSatisfy { bytes[$0] == literal.utf8Start[$0] }
  }

  /// Resolves escapes, which the cursor has checked. A lone surrogate becomes U+FFFD.
  private var unescaped: String {
    var units: [UInt16] = []
    var result = ""
    func flush() {
      result += String(decoding: units, as: UTF16.self)
      units.removeAll()
    }
    var index = 0
    while index < bytes.count {
      guard bytes[index] == UInt8(ascii: "\\") else {
        flush()
        let run = bytes[index...].prefix { $0 != UInt8(ascii: "\\") }
        result += String(decoding: run, as: UTF8.self)
        index = run.endIndex
        continue
      }
      switch bytes[index + 1] {
      case UInt8(ascii: "u"):
        let digits = String(decoding: bytes[(index + 2)..<(index + 6)], as: UTF8.self)
        units.append(UInt16(digits, radix: 16) ?? 0xFFFD)
        index += 6
      case UInt8(ascii: "b"): units.append(8); index += 2
      case UInt8(ascii: "f"): units.append(12); index += 2
      case UInt8(ascii: "n"): units.append(10); index += 2
      case UInt8(ascii: "r"): units.append(13); index += 2
      case UInt8(ascii: "t"): units.append(9); index += 2
      default: units.append(UInt16(bytes[index + 1])); index += 2
      }
    }
    flush()
    return result
  }
}
