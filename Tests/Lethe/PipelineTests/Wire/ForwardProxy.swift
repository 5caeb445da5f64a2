import Foundation
import SystemPackage
import TestSupport

/// Debian's tinyproxy as the only connection from a company's network to other networks. The proxy requires credentials
/// and writes a log. Only the proxy can resolve the names of hosts outside.
struct ForwardProxy: Sendable {
  static let user = "a-program"
  static let password = "what-the-proxy-wants-to-know"

  private let address: LoopbackAddress
  private let log: FilePath

  var url: String { url(password: Self.password) }

  func url(password: String) -> String { "http://\(Self.user):\(password)@\(address)" }

  /// The URL without credentials.
  var bareURL: String { "http://\(address)" }

  /// The hosts that the proxy has connected clients to.
  var hostsReached: Set<String> {
    get throws {
      Set(try text.matches(of: /Established connection to host "([^"]+)"/).map { String($0.1) })
    }
  }

  private var text: String {
    get throws { try String(contentsOfFile: log.string, encoding: .utf8) }
  }

  /// - Parameters:
  ///   - hosts: a file in the format of `/etc/hosts`.
  ///   - directory: the folder for the proxy's files.
  static func serving<R: Sendable>(
    hosts: FilePath, in directory: FilePath, _ body: (ForwardProxy) async throws -> R
  ) async throws -> R {
    let proxy = ForwardProxy(address: .random(), log: directory.appending("tinyproxy.log"))
    let file = directory.appending("tinyproxy.conf").string
    try """
    Listen \(proxy.address.host)
    Port \(proxy.address.port)
    BasicAuth \(user) \(password)
    LogFile "\(proxy.log)"
    LogLevel Connect
    Timeout 600

    """.write(toFile: file, atomically: true, encoding: .utf8)
    return try await ExternalServer.running(
      ["/usr/bin/tinyproxy", "-d", "-c", file], environment: CompanyNetwork.names(in: hosts),
      at: proxy.address, scratch: directory
    ) { try await body(proxy) }
  }
}
