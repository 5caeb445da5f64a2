import CZlib
import NIOHTTP1
import Testing

@testable import ComplianceAPI

@Suite struct ContentCodingTests {
  @Test(
    arguments: [
      ([], .identity), (["identity"], .identity), ([""], .identity), (["gzip"], .gzip),
      (["GZIP"], .gzip), (["x-gzip"], .gzip), (["deflate"], .deflate), (["br"], .unknown),
      (["zstd"], .unknown), (["gzip, br"], .unknown), (["gzip", "gzip"], .unknown),
    ] as [([String], ContentCoding)])
  func aCodingIsRecognizedByItsName(values: [String], coding: ContentCoding) {
    #expect(ContentCoding(HTTPHeaders(values.map { ("Content-Encoding", $0) })) == coding)
  }

  /// Compresses the bytes in zlib's format, which `deflate` uses.
  private static func packed(_ bytes: [UInt8]) -> [UInt8] {
    var size = compressBound(uLong(bytes.count))
    var packed = [UInt8](repeating: 0, count: Int(size))
    #expect(compress(&packed, &size, bytes, uLong(bytes.count)) == Z_OK)
    return Array(packed.prefix(Int(size)))
  }

  private static func unpacked(
    _ packed: [UInt8], blockBytes: Int, mayBeRaw: Bool = false
  ) throws -> ([UInt8], Bool) {
    let inflation = try Inflation(mayBeRaw: mayBeRaw)
    var bytes: [UInt8] = []
    for start in stride(from: 0, to: packed.count, by: blockBytes) {
      let block = Array(packed[start..<min(start + blockBytes, packed.count)])
      try block.withUnsafeBytes { try inflation.update($0) { bytes += Array($0) } }
    }
    return (bytes, inflation.isComplete)
  }

  @Test(arguments: [1, 7, 1 << 16])
  func packedBytesAreDecodedInBlocksOfEverySize(blockBytes: Int) throws {
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 7) }
    let packed = Self.packed(bytes)
    let (all, isComplete) = try Self.unpacked(packed, blockBytes: blockBytes)
    #expect(all == bytes && isComplete)
    let (part, isWhole) = try Self.unpacked(Array(packed.dropLast(3)), blockBytes: blockBytes)
    #expect(!isWhole && part.count <= bytes.count)
    // These are two streams, one after the other, as gzip allows.
    let (twice, isWholeTwice) = try Self.unpacked(packed + packed, blockBytes: blockBytes)
    #expect(twice == bytes + bytes && isWholeTwice)
    // Zero bytes after the stream are ignored.
    let (filled, isFilled) = try Self.unpacked(packed + [0, 0, 0, 0], blockBytes: blockBytes)
    #expect(filled == bytes && isFilled)
    if blockBytes > 1 {
      // The raw format has neither zlib's header of 2 bytes nor its checksum of 4 bytes.
      let raw = Array(packed.dropFirst(2).dropLast(4))
      let (plain, isPlain) = try Self.unpacked(raw, blockBytes: blockBytes, mayBeRaw: true)
      #expect(plain == bytes && isPlain)
    }
    var damaged = packed
    damaged[packed.count / 2] ^= 0xFF
    #expect(throws: Inflation.Damaged.self) {
      let (_, isWhole) = try Self.unpacked(damaged, blockBytes: blockBytes)
      if !isWhole { throw Inflation.Damaged() }
    }
    #expect(throws: Inflation.Damaged.self) {
      try Self.unpacked(Array("{\"id\":\"1\"}\n".utf8), blockBytes: blockBytes)
    }
  }
}
