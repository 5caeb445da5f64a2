/// How this machine connects to the API and to the storage hosts.
public struct NetworkSettings: Sendable {
  /// A file or folder of PEM certificates that are trusted in addition to the system's.
  public struct CertificateSource: Sendable, Equatable {
    public let path: String
    /// The setting that names the file or folder: `api.ca_file`, `SSL_CERT_FILE` or `SSL_CERT_DIR`.
    public let origin: String

    public init(path: String, origin: String) {
      (self.path, self.origin) = (path, origin)
    }

    /// The files and folders that the environment variables name. `SSL_CERT_DIR` may name several folders.
    public static func named(by environment: [String: String]) -> [CertificateSource] {
      let file = environment["SSL_CERT_FILE"].map { [$0] } ?? []
      let folders = (environment["SSL_CERT_DIR"] ?? "").split(separator: ":").map(String.init)
      return file.filter { !$0.isEmpty }.map { .init(path: $0, origin: "SSL_CERT_FILE") }
        + folders.map { .init(path: $0, origin: "SSL_CERT_DIR") }
    }
  }

  public var proxies: ProxySettings
  public var certificates: [CertificateSource]
  /// The longest time to open a connection.
  public var connectSeconds: Double
  /// The longest time without a byte sent or received.
  public var stallSeconds: Double
  /// The longest time of a call that does not transfer a job's bytes.
  public var answerSeconds: Double
  /// The longest time of one try of an upload or a download. Infinite without a limit: a transfer that makes progress
  /// is not ended.
  public var transferSeconds: Double
  /// The size of one part of an upload in parts, in bytes: a multiple of 256 KiB, as Google Cloud Storage requires.
  public var partBytes = 64 << 18

  public init(
    proxies: ProxySettings = ProxySettings(), certificates: [CertificateSource] = [],
    connectSeconds: Double = 15, stallSeconds: Double = 90, answerSeconds: Double = 120,
    transferSeconds: Double = .infinity
  ) {
    self.proxies = proxies
    self.certificates = certificates
    self.connectSeconds = connectSeconds
    self.stallSeconds = stallSeconds
    self.answerSeconds = answerSeconds
    self.transferSeconds = transferSeconds
  }
}
