/// Cuts an upload into lines and tells IDs from what is none.
///
/// An ID is 1 to 19 digits that fit in 64 bits with a sign, and nothing else: no sign, blank or CR. Of a
/// line that is none, only the begin is kept, so that one endless line takes no more memory than others.
struct SubmissionLines {
  static let invalidLineBytesMax = 4096

  /// How many lines have ended.
  private(set) var lines = 0
  /// The begin of a line whose end has not come.
  private var rest: [UInt8] = []

  /// Hands every line that ends in `bytes` to one of the two.
  mutating func scan(
    _ bytes: UnsafeRawBufferPointer, id: (Int64) -> Void, invalid: (UnsafeRawBufferPointer) -> Void
  ) {
    var start = 0
    if !rest.isEmpty {
      guard let newline = bytes.firstIndex(of: Self.newline) else { return keep(bytes) }
      keep(UnsafeRawBufferPointer(rebasing: bytes[..<newline]))
      finish(id: id, invalid: invalid)
      start = newline + 1
    }
    while start < bytes.count {
      // Digits and a line feed, which is what nearly all lines are.
      var value: UInt64 = 0
      var position = start
      while position < bytes.count {
        let digit = bytes[position] &- UInt8(ascii: "0")
        guard digit <= 9 else { break }
        value = value &* 10 &+ UInt64(digit)
        position += 1
      }
      guard position < bytes.count else { break }
      if bytes[position] == Self.newline, (1...19).contains(position - start),
        value <= UInt64(Int64.max)
      {
        id(Int64(value))
        lines += 1
        start = position + 1
        continue
      }
      while position < bytes.count, bytes[position] != Self.newline { position += 1 }
      guard position < bytes.count else { break }
      lines += 1
      let length = min(position - start, Self.invalidLineBytesMax)
      invalid(UnsafeRawBufferPointer(rebasing: bytes[start..<start + length]))
      start = position + 1
    }
    if start < bytes.count { keep(UnsafeRawBufferPointer(rebasing: bytes[start...])) }
  }

  /// Hands over what follows the last line feed; nothing does if the upload ends in one.
  mutating func finish(id: (Int64) -> Void, invalid: (UnsafeRawBufferPointer) -> Void) {
    guard !rest.isEmpty else { return }
    lines += 1
    rest.withUnsafeBytes { line in
      if let value = Self.value(line) { id(value) } else { invalid(line) }
    }
    rest.removeAll(keepingCapacity: true)
  }

  private static let newline = UInt8(ascii: "\n")

  private mutating func keep(_ bytes: UnsafeRawBufferPointer) {
    rest.append(contentsOf: bytes.prefix(Self.invalidLineBytesMax - rest.count))
  }

  private static func value(_ line: UnsafeRawBufferPointer) -> Int64? {
    guard (1...19).contains(line.count) else { return nil }
    // 19 digits always fit in 64 bits without a sign.
    var value: UInt64 = 0
    for byte in line {
      let digit = byte &- UInt8(ascii: "0")
      guard digit <= 9 else { return nil }
      value = value &* 10 &+ UInt64(digit)
    }
    return Int64(exactly: value)
  }
}
