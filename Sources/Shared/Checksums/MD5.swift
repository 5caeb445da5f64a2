internal import CLibCrypto

/// Incremental MD5 (RFC 1321). It does not protect against attackers. Clients of Google Cloud Storage use it to detect
/// transfer errors.
public struct MD5: Sendable {
  public static let digestBytes = 16

  private var context: DigestContext

  public init() {
    context = DigestContext(EVP_md5(), bytes: Self.digestBytes)
  }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    if !isKnownUniquelyReferenced(&context) { context = DigestContext(copying: context) }
    context.update(bytes)
  }

  /// The digest of all bytes so far: 16 bytes.
  public func finalize() -> [UInt8] {
    DigestContext(copying: context).finish()
  }
}
