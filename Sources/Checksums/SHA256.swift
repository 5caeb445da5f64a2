internal import CLibCrypto

/// SHA-256 (FIPS 180-4) of bytes as they come, over the system's libcrypto.
///
/// It is a value: a copy goes on alone, and `finalize` leaves it as it was, so the digest of what has
/// come so far can be had at any time.
public struct SHA256: Sendable {
  public static let digestBytes = 32

  private var context: DigestContext

  public init() {
    context = DigestContext()
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

/// Owns libcrypto's digest state.
///
/// libcrypto's calls fail only where the algorithm is missing or memory has run out. There is no
/// digest to go on with then, so both stop the program.
private final class DigestContext: Sendable {
  // Safe to share: `SHA256` updates a context only while it is its sole owner, and copying one only
  // reads it.
  private nonisolated(unsafe) let pointer: OpaquePointer

  init() {
    pointer = EVP_MD_CTX_new()!
    precondition(EVP_DigestInit_ex(pointer, EVP_sha256(), nil) == 1, "libcrypto has no SHA-256")
  }

  init(copying other: DigestContext) {
    pointer = EVP_MD_CTX_new()!
    precondition(EVP_MD_CTX_copy_ex(pointer, other.pointer) == 1, "libcrypto is out of memory")
  }

  deinit { EVP_MD_CTX_free(pointer) }

  func update(_ bytes: UnsafeRawBufferPointer) {
    precondition(
      EVP_DigestUpdate(pointer, bytes.baseAddress, bytes.count) == 1, "libcrypto failed to hash")
  }

  func finish() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: SHA256.digestBytes) { digest, count in
      precondition(
        EVP_DigestFinal_ex(pointer, digest.baseAddress, nil) == 1, "libcrypto failed to hash")
      count = SHA256.digestBytes
    }
  }
}
