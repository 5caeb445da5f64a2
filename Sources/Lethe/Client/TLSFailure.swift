import NIOSSL

/// What an error of TLS is about. BoringSSL has names for its reasons and no other order in them.
enum TLSFailure {
  /// Whether it will be the same at the next try: the other side has answered, and what it has is not to be used.
  static func isLasting(_ error: any Error) -> Bool {
    if let error = error as? NIOSSLExtraError {
      return error == .failedToValidateHostname || error == .serverHostnameImpossibleToMatch
    }
    if isOfCertificate(error) { return true }
    // What else goes wrong may be a server that is just starting.
    return ["UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_SHARED_CIPHER", "CERTIFICATE_REQUIRED"]
      .contains { "\(error)".contains($0) }
  }

  static func isOfCertificate(_ error: any Error) -> Bool {
    if error is NIOSSLExtraError { return true }
    if case .unableToValidateCertificate? = error as? NIOSSLError { return true }
    return "\(error)".contains("CERTIFICATE_VERIFY_FAILED")
  }

  /// In few words, without places in BoringSSL's code.
  static func reason(_ error: any Error) -> String {
    if error is NIOSSLExtraError { return "it is for another host" }
    let text = "\(error)"
    let word = text.firstMatch(of: /OPENSSL_internal:([A-Z0-9_]+)/)?.1
    return word.map { "\($0)".lowercased().replacing("_", with: " ") } ?? "the handshake failed"
  }
}
