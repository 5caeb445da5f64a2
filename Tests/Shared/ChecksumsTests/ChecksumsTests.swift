import Checksums
import Testing

@Suite struct SHA256Tests {
  /// The hashes are from the examples of FIPS 180-4.
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
  ])
  func hashesEqualThePublishedHashes(text: String, digest: String) {
    #expect(SHA256.hash(text).hexString == digest)
  }

  @Test func theHashDoesNotDependOnTheBlockSize() {
    let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    for step in [1, 63, 64, 65, 4096] {
      var hash = SHA256()
      for start in stride(from: 0, to: bytes.count, by: step) {
        hash.update(Array(bytes[start..<min(start + step, bytes.count)]))
      }
      #expect(hash.finalize() == SHA256.hash(bytes), "in steps of \(step)")
    }
  }

  @Test func rawBytesAreHashed() {
    let bytes = Array("abc".utf8)
    var hash = SHA256()
    bytes.withUnsafeBytes { hash.update($0) }
    hash.update(UnsafeRawBufferPointer(start: nil, count: 0))
    #expect(hash.finalize() == SHA256.hash(bytes))
  }

  @Test func copiesAreIndependent() {
    var first = SHA256()
    first.update(Array("a".utf8))
    var second = first
    second.update(Array("c".utf8))
    first.update(Array("b".utf8))
    #expect(first.finalize() == SHA256.hash("ab"))
    #expect(second.finalize() == SHA256.hash("ac"))
  }

  @Test func aHashCanBeContinuedAfterFinalize() {
    var hash = SHA256()
    hash.update(Array("ab".utf8))
    #expect(hash.finalize() == SHA256.hash("ab"))
    hash.update(Array("c".utf8))
    #expect(hash.finalize() == SHA256.hash("abc"))
  }
}

@Suite struct ConstantTimeEqualTests {
  @Test func onlyTheSameBytesAreEqual() {
    let bytes = Array("0123456789abcdef".utf8)
    #expect(constantTimeEqual(bytes, bytes) && constantTimeEqual([], []))
    for index in bytes.indices {
      var other = bytes
      other[index] ^= 1
      #expect(!constantTimeEqual(bytes, other), "byte \(index)")
    }
    #expect(!constantTimeEqual(bytes, bytes.dropLast()))
    #expect(!constantTimeEqual(bytes, bytes + [0]))
  }

  /// A comparison that stops at the first difference would be much faster for a difference in the first byte.
  @Test func theTimeDoesNotDependOnThePositionOfTheDifference() {
    let bytes = [UInt8](repeating: 7, count: 4_000_000)
    func leastTime(differingAt index: Int) -> Duration {
      var other = bytes
      other[index] ^= 1
      return (0..<30).map { _ in
        ContinuousClock().measure { #expect(!constantTimeEqual(bytes, other)) }
      }.min() ?? .zero
    }
    let (first, last) = (leastTime(differingAt: 0), leastTime(differingAt: bytes.count - 1))
    #expect(first * 3 > last && last * 3 > first, "\(first), \(last)")
  }
}

@Suite struct HMACSHA256Tests {
  /// The codes are from test cases 1, 2 and 6 of RFC 4231.
  @Test(arguments: [
    (
      [UInt8](repeating: 0x0b, count: 20), "Hi There",
      "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    ),
    (
      Array("Jefe".utf8), "what do ya want for nothing?",
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    ),
    (
      [UInt8](repeating: 0xaa, count: 131),
      "Test Using Larger Than Block-Size Key - Hash Key First",
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    ),
  ])
  func codesEqualThePublishedCodes(key: [UInt8], message: String, code: String) {
    #expect(HMACSHA256(key: key).code(for: Array(message.utf8)).hexString == code)
  }

  @Test func onlyTheCodeOfTheMessageAndTheKeyIsValid() {
    let hmac = HMACSHA256(key: Array("key".utf8))
    let message = Array("message".utf8)
    var code = hmac.code(for: message)
    #expect(hmac.isValid(code, for: message))
    #expect(!hmac.isValid(code, for: Array("other".utf8)))
    #expect(!HMACSHA256(key: Array("other".utf8)).isValid(code, for: message))
    #expect(!hmac.isValid(Array(code.dropLast()), for: message))
    code[31] ^= 1
    #expect(!hmac.isValid(code, for: message))
  }
}

@Test func hexadecimalHasTwoDigitsPerByte() {
  #expect([UInt8]().hexString == "")
  #expect([0x00, 0x0f, 0xa0, 0xff].hexString == "000fa0ff")
}

@Suite struct StorageChecksumTests {
  /// The sums are from RFC 3720, appendix B.4. The sum of `123456789` is the check value in the catalogue of
  /// parametrised CRC algorithms.
  private static let sums: [(bytes: [UInt8], sum: UInt32)] = [
    ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
    ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43), ([UInt8](0..<32), 0x46DD_794E),
    ([UInt8]((0..<32).reversed()), 0x113F_DB5C), ([UInt8]("123456789".utf8), 0xE306_9283),
    ([], 0),
  ]

  @Test(arguments: sums)
  func sumsEqualThePublishedSums(bytes: [UInt8], sum: UInt32) {
    for step in [1, 3, 8, 64] {
      var crc = CRC32C()
      for start in stride(from: 0, to: bytes.count, by: step) {
        bytes[start..<min(start + step, bytes.count)].withUnsafeBytes { crc.update($0) }
      }
      #expect(crc.value == sum, "in steps of \(step)")
    }
  }

  /// The hashes are from RFC 1321, appendix A.5.
  @Test(arguments: [
    ("", "d41d8cd98f00b204e9800998ecf8427e"), ("abc", "900150983cd24fb0d6963f7d28e17f72"),
    ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
  ])
  func hashesEqualThePublishedHashes(text: String, digest: String) {
    var md5 = MD5()
    Array(text.utf8).withUnsafeBytes { md5.update($0) }
    #expect(md5.finalize().hexString == digest)
  }
}
