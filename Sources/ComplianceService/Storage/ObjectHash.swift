internal import Checksums
internal import Foundation
internal import SystemPackage

/// What `x-goog-hash` says of an object.
struct ObjectHash: Equatable {
  let crc32c: String
  let md5: String

  /// Reads a file.
  /// - Throws: `Errno`; `CancellationError`.
  init(of path: FilePath) throws {
    var crc = CRC32C()
    var md5 = MD5()
    var reader = try BlockReader(path)
    defer { reader.close() }
    while let block = try reader.next() {
      try Task.checkCancellation()
      crc.update(block)
      md5.update(block)
    }
    crc32c = Data(crc.bytes).base64EncodedString()
    self.md5 = Data(md5.finalize()).base64EncodedString()
  }

  /// As the header has it, and the database keeps it: `crc32c=…,md5=…`.
  init?(_ text: String) {
    var values: [Substring: String] = [:]
    for part in text.split(separator: ",") {
      let part = part.drop { $0 == " " }
      guard let equals = part.firstIndex(of: "=") else { return nil }
      values[part[..<equals]] = String(part[part.index(after: equals)...])
    }
    guard let crc32c = values["crc32c"], let md5 = values["md5"] else { return nil }
    self.crc32c = crc32c
    self.md5 = md5
  }

  var text: String { "crc32c=\(crc32c),md5=\(md5)" }

  /// In quotes; Google's is the MD5 in hexadecimal.
  var entityTag: String {
    "\"\((Data(base64Encoded: md5).map(Array.init) ?? []).hexString)\""
  }

  /// Whether what a client says of its own upload is true. What it doesn't say is.
  func agrees(withClaim claim: String) -> Bool {
    claim.split(separator: ",").allSatisfy { part in
      let part = part.drop { $0 == " " }
      if part.hasPrefix("crc32c=") { return part.dropFirst(7) == crc32c }
      if part.hasPrefix("md5=") { return part.dropFirst(4) == md5 }
      return true
    }
  }
}
