public import SystemPackage

/// A private certificate authority, such as a company's authority, and its certificates.
public struct CertificateAuthority: Sendable {
  /// The authority's name. An error about one of its certificates should contain this name.
  public static let name = "Lethe's tests' authority"

  /// A server's certificate and its private key, in PEM.
  public struct Certificate: Sendable {
    public let file: FilePath
    public let key: FilePath
  }

  public struct Failed: Error, CustomStringConvertible {
    public let description: String
  }

  private let directory: FilePath
  private var key: FilePath { directory.appending("authority.key") }

  /// The authority's own certificate in PEM, for programs that trust it.
  public var file: FilePath { directory.appending("authority.pem") }

  /// Creates an authority.
  /// - Parameter directory: the directory for the authority's files.
  public init(in directory: FilePath) async throws {
    self.directory = directory
    try await Self.request(
      key: directory.appending("authority.key"), to: directory.appending("authority.pem"),
      subject: "/O=Lethe/CN=\(Self.name)",
      ["basicConstraints=critical,CA:true", "keyUsage=critical,keyCertSign,cRLSign"])
  }

  /// Creates a certificate for a server.
  /// - Parameters:
  ///   - names: host names, in addition to localhost. The first name is also the name of the files.
  ///   - addresses: IP addresses, in addition to 127.0.0.1.
  public func certificate(for names: [String], addresses: [String] = []) async throws -> Certificate
  {
    let certificate = Certificate(
      file: directory.appending("\(names[0]).pem"), key: directory.appending("\(names[0]).key"))
    let alternatives =
      (names + ["localhost"]).map { "DNS:\($0)" } + (addresses + ["127.0.0.1"]).map { "IP:\($0)" }
    try await Self.request(
      key: certificate.key, to: certificate.file, subject: "/O=Lethe/CN=\(names[0])",
      [
        "basicConstraints=critical,CA:false", "extendedKeyUsage=serverAuth",
        "subjectAltName=\(alternatives.joined(separator: ","))",
      ], signedBy: self)
    return certificate
  }

  private static func request(
    key: FilePath, to file: FilePath, subject: String, _ extensions: [String],
    signedBy authority: CertificateAuthority? = nil
  ) async throws {
    let command =
      ["/usr/bin/openssl", "req", "-x509", "-newkey", "ec"]
      + ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
      + ["-keyout", key.string, "-out", file.string, "-subj", subject, "-days", "2"]
      + extensions.flatMap { ["-addext", $0] }
      + (authority.map { ["-CA", $0.file.string, "-CAkey", $0.key.string] } ?? [])
    let openssl = try await Program.external(command)
    guard openssl.code == 0 else {
      throw Failed(description: "openssl ended with \(openssl.code):\n\(openssl.stderr)")
    }
  }
}
