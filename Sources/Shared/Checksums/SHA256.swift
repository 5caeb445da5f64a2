internal import CLibCrypto

/// SHA-256 (FIPS 180-4) of bytes as they come, over the system's libcrypto.
///
/// It is a value: a copy goes on alone, and `finalize` leaves it as it was, so the digest of what has
/// come so far can be had at any time.
public struct SHA256: Sendable {
  public static let digestBytes = 32

  private var context: DigestContext

  public init() {
    context = DigestContext(EVP_sha256(), bytes: Self.digestBytes)
  }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    if !isKnownUniquelyReferenced(&context) { context = DigestContext(copying: context) }
    context.update(bytes)
  }

  public mutating func update(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { update($0) }
  }

  /// The digest of all bytes so far: 32 bytes.
  public func finalize() -> [UInt8] {
    DigestContext(copying: context).finish()
  }

  public static func hash(_ bytes: [UInt8]) -> [UInt8] {
    var hash = SHA256()
    hash.update(bytes)
    return hash.finalize()
  }

  public static func hash(_ text: String) -> [UInt8] {
    hash(Array(text.utf8))
  }
}
