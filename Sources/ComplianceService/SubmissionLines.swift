internal import Foundation

/// Cuts an upload into lines and tells IDs from what is none.
///
/// An ID is 1 to 19 digits that fit in 64 bits with a sign, and nothing else: no sign, blank or CR. Of a
/// line that is none, only the begin is kept, so that one endless line takes no more memory than others.
struct SubmissionLines {
  enum Line: Equatable {
    case id(Int64)
    case invalid([UInt8])
  }

  static let invalidLineBytesMax = 4096

  /// The begin of a line whose end has not come.
  private var rest: [UInt8] = []

  /// Hands every line that ends in `bytes` to `body`.
  mutating func scan(_ bytes: UnsafeRawBufferPointer, _ body: (Line) -> Void) {
    guard var position = bytes.baseAddress else { return }
    let end = position + bytes.count
    while position < end, let newline = memchr(position, 0x0A, end - position) {
      let line = UnsafeRawBufferPointer(
        start: position, count: UnsafeRawPointer(newline) - position)
      if rest.isEmpty {
        body(Self.line(line))
      } else {
        keep(line)
        body(rest.withUnsafeBytes(Self.line))
        rest.removeAll(keepingCapacity: true)
      }
      position = UnsafeRawPointer(newline) + 1
    }
    keep(UnsafeRawBufferPointer(start: position, count: end - position))
  }

  /// Hands over what follows the last line feed; nothing does if the upload ends in one.
  mutating func finish(_ body: (Line) -> Void) {
    guard !rest.isEmpty else { return }
    body(rest.withUnsafeBytes(Self.line))
    rest = []
  }

  private mutating func keep(_ bytes: UnsafeRawBufferPointer) {
    rest.append(contentsOf: bytes.prefix(Self.invalidLineBytesMax - rest.count))
  }

  private static func line(_ bytes: UnsafeRawBufferPointer) -> Line {
    guard (1...19).contains(bytes.count) else {
      return .invalid(Array(bytes.prefix(invalidLineBytesMax)))
    }
    // 19 digits always fit in 64 bits without a sign.
    var value: UInt64 = 0
    for byte in bytes {
      let digit = byte &- UInt8(ascii: "0")
      guard digit <= 9 else { return .invalid(Array(bytes)) }
      value = value &* 10 &+ UInt64(digit)
    }
    return Int64(exactly: value).map(Line.id) ?? .invalid(Array(bytes))
  }
}

/// `{"id":"<line>","error":"invalid_id"}`: what a result says of a line that is no ID. Bytes that are no
/// UTF-8 become U+FFFD.
func invalidLineAnswer(_ line: [UInt8]) -> [UInt8] {
  var answer = Array(#"{"id":""#.utf8)
  for byte in String(decoding: line, as: UTF8.self).utf8 {
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): answer += [UInt8(ascii: "\\"), byte]
    case 0..<0x20:
      answer += Array((byte < 0x10 ? "\\u000" : "\\u00").utf8)
      answer += Array(String(byte, radix: 16).utf8)
    default: answer.append(byte)
    }
  }
  return answer + Array("\",\"error\":\"invalid_id\"}\n".utf8)
}
