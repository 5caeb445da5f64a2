/// Incremental CRC-32C (Castagnoli; RFC 3720, appendix B.4). It processes eight bytes at a time.
public struct CRC32C: Sendable {
  private var state = ~UInt32(0)

  public init() {}

  /// Table `n` contains, for each byte, its effect on the checksum if `n` more bytes follow.
  private static let tables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for byte in 0..<256 {
      var value = UInt32(byte)
      for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
      tables[byte] = value
    }
    for table in 1..<8 {
      for byte in 0..<256 {
        let before = tables[(table - 1) * 256 + byte]
        tables[table * 256 + byte] = before >> 8 ^ tables[Int(before & 0xFF)]
      }
    }
    return tables
  }()

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    var state = state
    Self.tables.withUnsafeBufferPointer { tables in
      var position = 0
      while position + 8 <= bytes.count {
        let word =
          UInt64(
            littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
          ^ UInt64(state)
        state = 0
        for byte in 0..<8 {
          state ^= tables[(7 - byte) * 256 + Int(word >> (8 * byte) & 0xFF)]
        }
        position += 8
      }
      while position < bytes.count {
        state = state >> 8 ^ tables[Int(UInt8(truncatingIfNeeded: state) ^ bytes[position])]
        position += 1
      }
    }
    self.state = state
  }

  /// The checksum of all bytes so far.
  public var value: UInt32 { ~state }

  /// The checksum as four bytes in big-endian order, as Google Cloud Storage encodes it.
  public var bytes: [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
}
