/// Splits an upload into lines and separates the IDs from invalid lines.
///
/// An ID is 1 to 19 digits that fit in a signed 64-bit integer, without a sign, a space or a CR. Only the beginning
/// of an invalid line is kept. Otherwise a very long line could fill the memory.
struct SubmissionLines {
  static let invalidLineBytesMax = 4096

  /// The number of complete lines so far.
  private(set) var lines = 0
  /// The beginning of a line that does not end in the bytes so far.
  private var rest: [UInt8] = []

  /// Calls `id` or `invalid` for each line that ends in `bytes`.
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
      // The fast path: digits and a line feed.
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

  /// Processes the text after the last line feed, if there is any.
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
    // 19 digits always fit in an unsigned 64-bit integer.
    var value: UInt64 = 0
    for byte in line {
      let digit = byte &- UInt8(ascii: "0")
      guard digit <= 9 else { return nil }
      value = value &* 10 &+ UInt64(digit)
    }
    return Int64(exactly: value)
  }
}
