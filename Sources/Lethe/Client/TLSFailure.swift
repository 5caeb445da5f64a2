import NIOSSL

/// The cause of a TLS error. BoringSSL reports its reasons only as names, so the cause is derived from these names.
enum TLSFailure: Equatable {
  /// The host's certificate is not trusted, or is for another host.
  case certificate(String)
  /// The host requires a client certificate, or refused the certificate that it received.
  case clientCertificate(String)
  /// The host does not serve the requested name.
  case unknownName(String)
  /// The other side does not use TLS.
  case noTLS(String)
  /// The two sides have no TLS version or no cipher in common.
  case nothingInCommon(String)
  /// An error that might be temporary: a server that is just starting, a connection that was cut, or an unknown reason.
  case temporary(String)

  /// Returns nil for an error that is not about TLS, such as a body that ends early.
  init?(_ error: any Error) {
    if let error = error as? NIOSSLExtraError {
      let isOfName = error == .failedToValidateHostname || error == .serverHostnameImpossibleToMatch
      self = isOfName ? .certificate("it is for another host") : .temporary("the handshake failed")
      return
    }
    switch error {
    case NIOSSLError.unableToValidateCertificate: self = .certificate("the handshake failed")
    case NIOSSLError.handshakeFailed, is BoringSSLError: self.init(reasonsOf: "\(error)")
    default: return nil
    }
  }

  private init(reasonsOf text: String) {
    let names = text.matches(of: /OPENSSL_internal:([A-Z0-9_]+)/).map { String($0.1) }
    func first(_ known: [String]) -> String? {
      names.first { name in known.contains { name.hasSuffix($0) } }.map(Self.reason)
    }
    if let reason = first(["CERTIFICATE_VERIFY_FAILED"]) {
      self = .certificate(reason)
    } else if let reason = first(Self.clientCertificateNames) {
      self = .clientCertificate(reason)
    } else if let reason = first(["UNRECOGNIZED_NAME"]) {
      self = .unknownName(reason)
    } else if let reason = first(["WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"]) {
      self = .noTLS(reason)
    } else if let reason = first(Self.nothingInCommonNames) {
      self = .nothingInCommon(reason)
    } else if let reason = first(["ALERT_HANDSHAKE_FAILURE"]) {
      // Before TLS 1.3, a host that requires a client certificate sends this alert. The more specific
      // reasons are tested above.
      self = .clientCertificate(reason)
    } else if let name = names.first {
      self = .temporary(Self.reason(name))
    } else {
      let isCutOff = text.contains("EOF during handshake")
      self = .temporary(isCutOff ? "the connection ended" : "the handshake failed")
    }
  }

  private static let clientCertificateNames = [
    "ALERT_CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE", "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_REVOKED", "ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_NO_CERTIFICATE", "ALERT_UNKNOWN_CA", "ALERT_ACCESS_DENIED",
  ]

  private static let nothingInCommonNames = [
    "HANDSHAKE_FAILURE_ON_CLIENT_HELLO", "PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL",
    "WRONG_SSL_VERSION", "NO_SHARED_CIPHER", "NO_SHARED_GROUP", "NO_COMMON_SIGNATURE_ALGORITHMS",
    "INSUFFICIENT_SECURITY", "NO_APPLICATION_PROTOCOL", "BAD_DH_P_LENGTH", "WRONG_CURVE",
  ]

  /// The reason as short text: `SSLV3_ALERT_BAD_CERTIFICATE` becomes `bad certificate`.
  private static func reason(_ name: String) -> String {
    name.replacing(/^(SSLV3|TLSV1)_ALERT_/, with: "").lowercased().replacing("_", with: " ")
  }
}
