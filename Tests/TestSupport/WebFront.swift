internal import Foundation
public import SystemPackage

/// Debian's nginx before other servers, as operators put it: with TLS or without, and without keeping what it passes on.
public struct WebFront: Sendable {
  /// What leads where.
  public struct Site: Sendable {
    let name: String
    let target: String

    /// - Parameters:
    ///   - name: the host by which clients name it.
    ///   - target: such as `http://127.0.0.1:8080`.
    public init(_ name: String, to target: String) {
      self.name = name
      self.target = target
    }
  }

  /// Runs nginx for the length of `body`, once it takes connections.
  ///
  /// - Parameters:
  ///   - certificate: of all sites; without one nothing is encrypted.
  ///   - directory: where it keeps its files.
  public static func serving<R: Sendable>(
    _ sites: [Site], at place: LoopbackPlace, certificate: CertificateAuthority.Certificate? = nil,
    in directory: FilePath, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> R
  ) async throws -> R {
    let file = directory.appending("nginx-\(place).conf").string
    try configuration(sites, place, certificate, directory)
      .write(toFile: file, atomically: true, encoding: .utf8)
    return try await ForeignServer.running(
      ["/usr/sbin/nginx", "-e", "stderr", "-p", directory.string, "-c", file], at: place,
      scratch: directory, body)
  }

  /// One process, which is of the current user: a master would hand the work to another user if it were root.
  private static func configuration(
    _ sites: [Site], _ place: LoopbackPlace, _ certificate: CertificateAuthority.Certificate?,
    _ directory: FilePath
  ) -> String {
    let temporaryPaths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map { "\($0)_temp_path \(directory.appending("nginx-\($0)"));" }.joined(separator: "\n")
    let encryption = certificate.map {
      "ssl_certificate \($0.file); ssl_certificate_key \($0.key);"
    }
    let servers = sites.map { site in
      """
      server {
        listen \(place)\(encryption == nil ? "" : " ssl");
        server_name \(site.name);
        location / { proxy_pass \(site.target); }
      }
      """
    }
    return """
      daemon off; master_process off; pid \(directory.appending("nginx-\(place).pid")); error_log stderr;
      events {}
      http {
      access_log off; server_tokens off; \(encryption ?? "")
      \(temporaryPaths)
      client_max_body_size 0; proxy_request_buffering off; proxy_buffering off;
      proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_read_timeout 600; proxy_send_timeout 600;
      \(servers.joined(separator: "\n"))
      }
      """
  }
}
