/// How this machine reaches the API and the hosts of bytes.
public struct NetworkSettings: Sendable {
  /// A file or a folder of certificates, in PEM, that are trusted beside the system's.
  public struct CertificateSource: Sendable, Equatable {
    public let path: String
    /// What names it: `api.ca_file`, `SSL_CERT_FILE` or `SSL_CERT_DIR`.
    public let origin: String

    public init(path: String, origin: String) {
      (self.path, self.origin) = (path, origin)
    }

    /// Those that the environment names; `SSL_CERT_DIR` may name several folders.
    public static func named(by environment: [String: String]) -> [CertificateSource] {
      let file = environment["SSL_CERT_FILE"].map { [$0] } ?? []
      let folders = (environment["SSL_CERT_DIR"] ?? "").split(separator: ":").map(String.init)
      return file.filter { !$0.isEmpty }.map { .init(path: $0, origin: "SSL_CERT_FILE") }
        + folders.map { .init(path: $0, origin: "SSL_CERT_DIR") }
    }
  }

  public var proxies: ProxySettings
  public var certificates: [CertificateSource]
  /// Until a connection stands.
  public var connectSeconds: Double
  /// In which not one byte comes or goes.
  public var stallSeconds: Double
  /// Of a call that carries no bytes of a job, as a whole.
  public var answerSeconds: Double
  /// Of an upload or a download, as a whole.
  public var transferSeconds: Double
  /// Of one part of an upload in parts; a multiple of 256 KiB, as Google Cloud Storage wants it.
  public var partBytes = 64 << 18

  public init(
    proxies: ProxySettings = ProxySettings(), certificates: [CertificateSource] = [],
    connectSeconds: Double = 15, stallSeconds: Double = 90, answerSeconds: Double = 120,
    transferSeconds: Double = 7200
  ) {
    self.proxies = proxies
    self.certificates = certificates
    self.connectSeconds = connectSeconds
    self.stallSeconds = stallSeconds
    self.answerSeconds = answerSeconds
    self.transferSeconds = transferSeconds
  }
}
