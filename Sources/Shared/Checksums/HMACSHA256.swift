internal import CLibCrypto

/// HMAC with SHA-256 (RFC 2104): proves that the creator of the code had the key.
public struct HMACSHA256: Sendable {
  private let key: [UInt8]

  /// - Parameter key: use 32 random bytes; a longer key is not safer.
  public init(key: [UInt8]) {
    self.key = key
  }

  /// The code for a message: 32 bytes.
  public func code(for message: [UInt8]) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: SHA256.digestBytes) { code, count in
      let result = HMAC(
        EVP_sha256(), key, Int32(key.count), message, message.count, code.baseAddress, nil)
      precondition(result != nil, "libcrypto has no HMAC")
      count = SHA256.digestBytes
    }
  }

  /// Whether `code` is the code of `message`, in constant time.
  public func isValid(_ code: [UInt8], for message: [UInt8]) -> Bool {
    constantTimeEqual(code, self.code(for: message))
  }
}

/// Compares in constant time: the time does not depend on how many bytes are equal, only on the lengths.
public func constantTimeEqual(_ first: [UInt8], _ second: [UInt8]) -> Bool {
  first.count == second.count && CRYPTO_memcmp(first, second, first.count) == 0
}
