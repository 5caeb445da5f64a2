import Checksums
import Foundation

/// Compares the checksums that a server announces (`x-goog-hash: crc32c=…,md5=…` in base64) with the checksums of the
/// bytes that are passed to `update`. Only announced checksums are computed.
///
/// Source: Google Cloud Storage's XML API. X served results from it until August 2026.
struct AnnouncedHash {
  private let crc32c: String?
  private let md5: String?
  private var crcOfBytes: CRC32C?
  private var md5OfBytes: MD5?

  /// - Parameters:
  ///   - values: the header's values. The header can appear once with commas, or several times.
  ///   - needsMD5: if false, the MD5 is computed only if no CRC-32C is announced.
  init(_ values: [String], needsMD5: Bool = true) {
    var announced: [Substring: String] = [:]
    for part in values.flatMap({ $0.split(separator: ",") }) {
      let pair = part.drop { $0 == " " }.split(separator: "=", maxSplits: 1)
      if pair.count == 2 { announced[pair[0]] = pair[1].trimmingCharacters(in: .whitespaces) }
    }
    crc32c = announced["crc32c"]
    md5 = needsMD5 || announced["crc32c"] == nil ? announced["md5"] : nil
    if crc32c != nil { crcOfBytes = CRC32C() }
    if md5 != nil { md5OfBytes = MD5() }
  }

  var isAnnounced: Bool { crc32c != nil || md5 != nil }

  mutating func update(_ bytes: UnsafeRawBufferPointer) {
    crcOfBytes?.update(bytes)
    md5OfBytes?.update(bytes)
  }

  /// A description of the checksum that differs. Nil if all announced checksums are equal.
  var mismatch: String? {
    if let crcOfBytes, Data(crcOfBytes.bytes).base64EncodedString() != crc32c {
      return "the CRC-32C of the received bytes differs from the announced one"
    }
    if let md5OfBytes, Data(md5OfBytes.finalize()).base64EncodedString() != md5 {
      return "the MD5 of the received bytes differs from the announced one"
    }
    return nil
  }
}
