internal import CLibCrypto

/// Incremental SHA-256 (FIPS 180-4), with the system's libcrypto.
///
/// It is a value: a copy is independent, and `finalize` does not change it. So the digest of the bytes so far is
/// available at any time.
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
