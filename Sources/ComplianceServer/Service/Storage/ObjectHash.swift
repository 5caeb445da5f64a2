internal import Checksums
internal import Foundation
internal import SystemPackage

/// What `x-goog-hash` says of an object.
struct ObjectHash: Equatable {
  let crc32c: String
  /// Nil for a composite of other objects, such as a result is.
  let md5: String?

  /// Reads a file.
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

  /// As the header has it, and the database keeps it: `crc32c=…,md5=…`, of a composite `crc32c=…`.
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

  /// A field of the header each.
  var parts: [String] { ["crc32c=\(crc32c)"] + (md5.map { ["md5=\($0)"] } ?? []) }

  /// In quotes; Google's is the MD5 in hexadecimal, and of a composite something else.
  var entityTag: String {
    guard let md5 else { return "\"\(crc32c)\"" }
    return "\"\((Data(base64Encoded: md5).map(Array.init) ?? []).hexString)\""
  }

  /// Whether what a client says of its own upload is true. What it doesn't say is.
  func agrees(withClaim claim: String) -> Bool {
    claim.split(separator: ",").allSatisfy { part in
      let part = part.drop { $0 == " " }
      if part.hasPrefix("crc32c=") { return part.dropFirst(7) == crc32c }
      if part.hasPrefix("md5="), let md5 { return part.dropFirst(4) == md5 }
      return true
    }
  }
}
