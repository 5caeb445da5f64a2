import ComplianceService
import Foundation
import SystemPackage
import TestSupport

/// A service behind the names that X and Google have, for clients that know no others: a proxy of the test's own leads them
/// to nginx, whose certificate is of an authority that they are told to trust.
struct PublicHosts {
  let service: LocalService
  /// What a program that uses requests needs to get there.
  let environment: [String: String]

  private static let api = ["api.x.com", "api.twitter.com"]
  private static let storage = "storage.googleapis.com"

  static func run<R: Sendable>(
    _ profile: WireProfile, _ body: (PublicHosts) async throws -> R
  ) async throws -> R {
    let (front, storagePlace) = (LoopbackPlace.random(), LoopbackPlace.random())
    return try await LocalService.run({
      $0.profile = profile
      $0.publicURL = "https://\(api[0])"
      $0.storagePublicURL = "https://\(storage)"
      ($0.storageHost, $0.storagePort) = (storagePlace.host, storagePlace.port)
      // Clients ask again at once whether a job is done.
      $0.rateLimit = nil
    }) { service in
      try await withTemporaryDirectory { directory in
        let authority = try CertificateAuthority(in: directory)
        let certificate = try authority.certificate(for: api + [storage])
        let sites =
          api.map { WebFront.Site($0, to: service.baseURL) }
          + [WebFront.Site(storage, to: "http://\(storagePlace)")]
        return try await WebFront.serving(
          sites, at: front, certificate: certificate, in: directory
        ) {
          let hosts = api + [storage]
          return try await Tool.serving(
            ["connect_proxy.py", front.host, "\(front.port)"] + hosts
          ) { port in
            let proxy = "http://127.0.0.1:\(port)"
            // Both spellings: the small letters win, and the machine may have its own.
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
