internal import CLibCrypto

/// Owns libcrypto's digest state.
///
/// libcrypto's calls fail only if the algorithm is missing or memory runs out. The program cannot continue without
/// the digest, so both errors stop it.
final class DigestContext: Sendable {
  // Safe to share: a hash updates a context only while it is the only owner, and copying only reads.
  private nonisolated(unsafe) let pointer: OpaquePointer
  private let digestBytes: Int

  init(_ algorithm: OpaquePointer?, bytes: Int) {
    pointer = EVP_MD_CTX_new()!
    digestBytes = bytes
    precondition(EVP_DigestInit_ex(pointer, algorithm, nil) == 1, "libcrypto lacks a hash")
  }

  init(copying other: DigestContext) {
    pointer = EVP_MD_CTX_new()!
    digestBytes = other.digestBytes
    precondition(EVP_MD_CTX_copy_ex(pointer, other.pointer) == 1, "libcrypto is out of memory")
  }

  deinit { EVP_MD_CTX_free(pointer) }

  func update(_ bytes: UnsafeRawBufferPointer) {
    precondition(
      EVP_DigestUpdate(pointer, bytes.baseAddress, bytes.count) == 1, "libcrypto failed to hash")
  }

  func finish() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: digestBytes) { digest, count in
      precondition(
        EVP_DigestFinal_ex(pointer, digest.baseAddress, nil) == 1, "libcrypto failed to hash")
      count = digestBytes
    }
  }
}
