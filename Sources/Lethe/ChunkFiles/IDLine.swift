/// The line of an ID in a chunk's file: its digits and LF.
///
/// The IDs of a file ascend, so an ID often differs from the one before only in the last eight digits. The digits
/// before these are kept from one ID to the next. The last eight are made together, in one 64-bit word.
struct IDLine {
  /// The longest line: 19 digits and LF.
  static let bytesMax = 20

  /// The number of bytes.
  private(set) var count = 0
  /// The ID without its last eight digits, as a number and as digits. The first digit is in the lowest byte.
  private var head: UInt64 = 0
  private var headDigits: (UInt64, UInt64) = (0, 0)
  private var headCount = 0
  /// The last digits, up to eight. The first one is in the lowest byte.
  private var tailDigits: UInt64 = 0
  private var tailCount = 0

  private static let tailSize: UInt64 = 100_000_000

  /// - Parameter id: positive.
  mutating func set(_ id: Int64) {
    let (newHead, tail) = UInt64(id).quotientAndRemainder(dividingBy: Self.tailSize)
    if newHead != head { setHead(newHead) }
    tailDigits = Self.digits(tail)
    tailCount = 8
    if headCount == 0 {
      // The zeros before the first digit are dropped.
      let zeros = min((tailDigits ^ 0x3030_3030_3030_3030).trailingZeroBitCount / 8, 7)
      tailDigits >>= 8 * UInt64(zeros)
      tailCount -= zeros
    }
    count = headCount + tailCount + 1
  }

  private mutating func setHead(_ value: UInt64) {
    head = value
    headDigits = (0, 0)
    headCount = 0
    for digit in String(value).utf8 where value > 0 {
      if headCount < 8 {
        headDigits.0 |= UInt64(digit) << UInt64(8 * headCount)
      } else {
        headDigits.1 |= UInt64(digit) << UInt64(8 * (headCount - 8))
      }
      headCount += 1
    }
  }

  /// Eight decimal digits in ASCII, the first one in the lowest byte. In each step, all parts of the word are divided
  /// at once: by 10,000, by 100 and by 10. A division is a multiplication and a shift that are exact for these sizes.
  private static func digits(_ value: UInt64) -> UInt64 {
    let fours = value / 10_000 | (value % 10_000) << 32
    let hundreds = (fours &* 10_486) >> 20 & 0x0000_007F_0000_007F
    let twos = (fours &- 100 &* hundreds) << 16 | hundreds
    let tens = (twos &* 103) >> 10 & 0x000F_000F_000F_000F
    return ((twos &- 10 &* tens) << 8 | tens) | 0x3030_3030_3030_3030
  }

  /// Writes the line. Bytes after it, up to `bytesMax`, may change, too.
  func write(to buffer: UnsafeMutableRawBufferPointer, at offset: Int) {
    buffer.storeBytes(of: headDigits.0.littleEndian, toByteOffset: offset, as: UInt64.self)
    if headCount > 8 {
      buffer.storeBytes(
        of: UInt32(truncatingIfNeeded: headDigits.1).littleEndian, toByteOffset: offset + 8,
        as: UInt32.self)
    }
    buffer.storeBytes(
      of: tailDigits.littleEndian, toByteOffset: offset + headCount, as: UInt64.self)
    buffer[offset + count - 1] = 0x0A
  }
}
