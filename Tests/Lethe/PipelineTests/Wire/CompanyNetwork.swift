import ComplianceService
import Foundation
import SystemPackage
import TestSupport
import Testing

/// A service that programs reach from inside a company's network. Only the company's proxy can resolve the service's
/// names. nginx runs in front of the service, with a certificate from the company's own authority.
struct CompanyNetwork: Sendable {
  let fixture: PipelineFixture
  let authority: CertificateAuthority
  let proxy: ForwardProxy
  /// The API's base URL, such as `https://api.company.test:20123`.
  let api: String
  let apiHost: String
  /// A folder that contains the authority's certificate and other files.
  let trusted: FilePath
  private let hosts: FilePath

  private static let apiName = "api.company.test"
  static let storageHost = "storage.company.test"

  /// - Parameters:
  ///   - isEncrypted: whether nginx uses TLS.
  ///   - certifiedNames: the names in the certificate of nginx.
  static func with<R: Sendable>(
    _ profile: WireProfile = .native, isEncrypted: Bool = true,
    certifiedNames: [String] = [apiName, storageHost],
    _ body: (CompanyNetwork) async throws -> R
  ) async throws -> R {
    let (front, storage) = (LoopbackAddress.random(), LoopbackAddress.random())
    // Without encryption, Lethe accepts only localhost as the API's host. In this network, localhost resolves to nginx.
    let apiHost = isEncrypted ? apiName : "localhost"
    @Sendable func url(_ host: String) -> String {
      "\(isEncrypted ? "https" : "http")://\(host):\(front.port)"
    }
    return try await PipelineFixture.with({
      $0.profile = profile
      $0.publicURL = url(apiHost)
      $0.storagePublicURL = url(storageHost)
      ($0.storageHost, $0.storagePort) = (storage.host, storage.port)
    }) { fixture in
      try await withTemporaryDirectory { directory in
        let authority = try await CertificateAuthority(in: directory)
        try FileManager.default.createDirectory(
          atPath: directory.appending("trusted").string, withIntermediateDirectories: false)
        try FileManager.default.copyItem(
          atPath: authority.file.string, toPath: directory.appending("trusted/company.crt").string)
        try "The authorities that the company trusts.\n".write(
          toFile: directory.appending("trusted/README").string, atomically: true, encoding: .utf8)
        let certificate =
          isEncrypted ? try await authority.certificate(for: certifiedNames) : nil
        let hosts = directory.appending("hosts")
        try "\(front.host) \(apiHost) \(storageHost)\n"
          .write(toFile: hosts.string, atomically: true, encoding: .utf8)
        let sites = [
          ReverseProxy.Site(apiHost, to: fixture.service),
          ReverseProxy.Site(storageHost, to: "http://\(storage)"),
        ]
        return try await ReverseProxy.serving(
          sites, at: front, certificate: certificate, in: directory
        ) {
          try await ForwardProxy.serving(hosts: hosts, in: directory) { proxy in
            try await body(
              CompanyNetwork(
                fixture: fixture, authority: authority, proxy: proxy, api: url(apiHost),
                apiHost: apiHost,
                trusted: directory.appending("trusted"), hosts: hosts))
          }
        }
      }
    }
  }

  /// The environment in which a program resolves names from a file in the format of `/etc/hosts`.
  static func names(in hosts: FilePath) -> [String: String] {
    ["LD_PRELOAD": "libnss_wrapper.so", "NSS_WRAPPER_HOSTS": hosts.string]
  }

  /// The environment of a program that can resolve the service's names without a proxy.
  var names: [String: String] { Self.names(in: hosts) }

  /// Network variables that may be set on this machine.
  static let variables =
    ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"]
    .flatMap { [$0, $0.lowercased()] } + ["SSL_CERT_FILE", "SSL_CERT_DIR"]

  /// Runs `lethe` with these variables, and with no network variables of the machine.
  /// - Parameter lines: additional lines for the `api:` section of the definition.
  func lethe(
    _ arguments: String..., environment: [String: String], lines: [String] = []
  ) async throws -> Program.Result {
    let more = lines + ["allowed_hosts: [\(Self.storageHost)]"]
    let file = try fixture.definitionFile {
      $0.editing("  poll_seconds:", to: more.map { "  \($0)\n" }.joined() + "  poll_seconds:")
    }
    return try await Program.run(
      "lethe", arguments + [file],
      environment: fixture.environment.merging(["COMPLIANCE_API_URL": api]) { $1 }
        .merging(environment) { $1 },
      without: Self.variables.filter { environment[$0] == nil })
  }
}
