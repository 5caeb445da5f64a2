internal import Checksums
internal import Foundation
internal import SystemPackage

/// The hashes of an object, for `x-goog-hash`.
struct ObjectHash: Equatable {
  let crc32c: String
  /// Nil for a composite object, such as a result.
  let md5: String?

  /// Reads a file and hashes it.
  /// - Throws: `Errno`; `CancellationError`.
  init(of path: FilePath, isComposite: Bool = false) throws {
    var crc = CRC32C()
    var md5 = MD5()
    var reader = try BlockReader(path)
    defer { reader.close() }
    while let block = try reader.next() {
      try Task.checkCancellation()
      crc.update(block)
      if !isComposite { md5.update(block) }
    }
    crc32c = Data(crc.bytes).base64EncodedString()
    self.md5 = isComposite ? nil : Data(md5.finalize()).base64EncodedString()
  }

  /// Parses the format of the header and the database: `crc32c=…,md5=…`, or `crc32c=…` for a composite.
  init?(_ text: String) {
    var values: [Substring: String] = [:]
    for part in text.split(separator: ",") {
      let part = part.drop { $0 == " " }
      guard let equals = part.firstIndex(of: "=") else { return nil }
      values[part[..<equals]] = String(part[part.index(after: equals)...])
    }
    guard let crc32c = values["crc32c"] else { return nil }
    self.crc32c = crc32c
    md5 = values["md5"]
  }

  var text: String { parts.joined(separator: ",") }

  /// The values of the `x-goog-hash` header fields.
  var parts: [String] { ["crc32c=\(crc32c)"] + (md5.map { ["md5=\($0)"] } ?? []) }

  /// The entity tag, in quotes. Google uses the MD5 in hexadecimal, and another value for a composite.
  var entityTag: String {
    guard let md5 else { return "\"\(crc32c)\"" }
    return "\"\((Data(base64Encoded: md5).map(Array.init) ?? []).hexString)\""
  }

  /// Whether the hashes that a client sent with its upload are correct. A hash that the client did not send counts as
  /// correct.
  func agrees(withClaim claim: String) -> Bool {
    claim.split(separator: ",").allSatisfy { part in
      let part = part.drop { $0 == " " }
      if part.hasPrefix("crc32c=") { return part.dropFirst(7) == crc32c }
      if part.hasPrefix("md5="), let md5 { return part.dropFirst(4) == md5 }
      return true
    }
  }
}
