import Foundation
import SystemPackage
import TestSupport

/// Debian's tinyproxy, as the one way out of a company's network: it wants credentials, resolves the names that nobody else
/// knows, and keeps a log.
struct ForwardProxy: Sendable {
  static let user = "a-program"
  static let password = "what-the-proxy-wants-to-know"

  private let place: LoopbackAddress
  private let log: FilePath

  var url: String { url(password: Self.password) }

  func url(password: String) -> String { "http://\(Self.user):\(password)@\(place)" }

  /// Without credentials.
  var bareURL: String { "http://\(place)" }

  /// The hosts that it has led somebody to.
  var hostsReached: Set<String> {
    get throws {
      Set(try text.matches(of: /Established connection to host "([^"]+)"/).map { String($0.1) })
    }
  }

  /// What it was asked for, such as `CONNECT api.example:443`, granted or not.
  var requests: [String] {
    get throws {
      try text.matches(of: /Request \(file descriptor \d+\): (\S+ \S+)/).map { String($0.1) }
    }
  }

  private var text: String {
    get throws { try String(contentsOfFile: log.string, encoding: .utf8) }
  }

  /// - Parameters:
  ///   - hosts: a file as `/etc/hosts`.
  ///   - directory: where it keeps its files.
  static func serving<R: Sendable>(
    hosts: FilePath, in directory: FilePath, _ body: (ForwardProxy) async throws -> R
  ) async throws -> R {
    let proxy = ForwardProxy(place: .random(), log: directory.appending("tinyproxy.log"))
    let file = directory.appending("tinyproxy.conf").string
    try """
    Listen \(proxy.place.host)
    Port \(proxy.place.port)
    BasicAuth \(user) \(password)
    LogFile "\(proxy.log)"
    LogLevel Connect
    Timeout 600

    """.write(toFile: file, atomically: true, encoding: .utf8)
    return try await ExternalServer.running(
      ["/usr/bin/tinyproxy", "-d", "-c", file], environment: CompanyNetwork.names(in: hosts),
      at: proxy.place, scratch: directory
    ) { try await body(proxy) }
  }
}
