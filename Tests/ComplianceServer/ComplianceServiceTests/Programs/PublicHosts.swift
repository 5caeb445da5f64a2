import ComplianceService
import Foundation
import SystemPackage
import TestSupport

/// A service at the host names of X and Google, for clients that have no setting for the host name. The test's proxy
/// connects these clients to nginx, which forwards their requests to the service. The clients trust the test's
/// certificate authority.
struct PublicHosts {
  let service: LocalService
  /// The environment for programs that use the Python library requests.
  let environment: [String: String]

  private static let api = ["api.x.com", "api.twitter.com"]
  private static let storage = "storage.googleapis.com"

  static func run<R: Sendable>(
    _ profile: WireProfile, _ body: (PublicHosts) async throws -> R
  ) async throws -> R {
    let (front, storageAddress) = (LoopbackAddress.random(), LoopbackAddress.random())
    return try await LocalService.run({
      $0.profile = profile
      $0.publicURL = "https://\(api[0])"
      $0.storagePublicURL = "https://\(storage)"
      ($0.storageHost, $0.storagePort) = (storageAddress.host, storageAddress.port)
      // Clients poll without a pause, so a rate limit would refuse requests.
      $0.rateLimit = nil
    }) { service in
      try await withTemporaryDirectory { directory in
        let authority = try await CertificateAuthority(in: directory)
        let certificate = try await authority.certificate(for: api + [storage])
        let sites =
          api.map { ReverseProxy.Site($0, to: service.baseURL) }
          + [ReverseProxy.Site(storage, to: "http://\(storageAddress)")]
        return try await ReverseProxy.serving(
          sites, at: front, certificate: certificate, in: directory
        ) {
          let hosts = api + [storage]
          return try await Tool.serving(
            ["connect_proxy.py", front.host, "\(front.port)"] + hosts
          ) { port in
            let proxy = "http://127.0.0.1:\(port)"
            // Clients prefer the lower-case variable, and the machine might already have it. So both spellings are set.
            return try await body(
              PublicHosts(
                service: service,
                environment: [
                  "HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": "", "no_proxy": "",
                  "REQUESTS_CA_BUNDLE": authority.file.string, "HOME": directory.string,
                ]))
          }
        }
      }
    }
  }
}
