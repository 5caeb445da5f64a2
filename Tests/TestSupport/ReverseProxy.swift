internal import Foundation
public import SystemPackage

/// Debian's nginx as a reverse proxy, with or without TLS. It does not buffer requests or responses.
public struct ReverseProxy: Sendable {
  /// A host name and its target.
  public struct Site: Sendable {
    let name: String
    let target: String

    /// - Parameters:
    ///   - name: the host name that clients use.
    ///   - target: the base URL of the server, such as `http://127.0.0.1:8080`.
    public init(_ name: String, to target: String) {
      self.name = name
      self.target = target
    }
  }

  /// Runs nginx, and runs `body` when nginx accepts connections.
  ///
  /// - Parameters:
  ///   - certificate: the certificate of all sites. Nil means no TLS.
  ///   - directory: the directory for the files of nginx.
  public static func serving<R: Sendable>(
    _ sites: [Site], at address: LoopbackAddress,
    certificate: CertificateAuthority.Certificate? = nil,
    in directory: FilePath, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> R
  ) async throws -> R {
    let file = directory.appending("nginx-\(address).conf").string
    try configuration(sites, address, certificate, directory)
      .write(toFile: file, atomically: true, encoding: .utf8)
    return try await ExternalServer.running(
      ["/usr/sbin/nginx", "-e", "stderr", "-p", directory.string, "-c", file], at: address,
      scratch: directory, body)
  }

  /// Returns a configuration with a single process of the current user. As root, a master process would start workers
  /// as another user.
  private static func configuration(
    _ sites: [Site], _ address: LoopbackAddress, _ certificate: CertificateAuthority.Certificate?,
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
        listen \(address)\(encryption == nil ? "" : " ssl");
        server_name \(site.name);
        location / { proxy_pass \(site.target); }
      }
      """
    }
    return """
      daemon off; master_process off; pid \(directory.appending("nginx-\(address).pid")); error_log stderr;
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
