internal import Foundation
internal import SystemPackage

/// PgBouncer in front of the tests' server.
public struct Pooler: Sendable {
  public enum Mode: String, Sendable, CaseIterable {
    case session
    case transaction
    case statement
  }

  public struct Configuration: Sendable, CustomStringConvertible {
    public let mode: Mode
    /// The maximum number of the pooler's connections to a database.
    public let sessionsMax: Int
    /// Whether the pooler uses these connections round-robin. Otherwise, it prefers the one that was used last.
    public let isRoundRobin: Bool
    /// The statement that the pooler runs before it gives a session to another client, in session mode.
    public let resetQuery: String

    public init(
      _ mode: Mode, sessionsMax: Int = 20, isRoundRobin: Bool = false,
      resetQuery: String = "DISCARD ALL"
    ) {
      (self.mode, self.sessionsMax) = (mode, sessionsMax)
      (self.isRoundRobin, self.resetQuery) = (isRoundRobin, resetQuery)
    }

    public var description: String {
      "\(mode), \(sessionsMax) sessions\(isRoundRobin ? " round-robin" : ""), reset '\(resetQuery)'"
    }
  }

  public let address: LoopbackAddress

  /// A password that the pooler does not ask for. No program may show it.
  public static let password = "the-password-of-the-pooler"

  /// The connection string as text for a database behind the pooler.
  /// - Parameter hosts: other addresses than the pooler's own, such as that of a proxy.
  public func url(of database: TestDatabase, at hosts: LoopbackAddress...) -> String {
    let hosts = (hosts.isEmpty ? [address] : hosts).map(\.description).joined(separator: ",")
    return "postgresql://anybody:\(Self.password)@\(hosts)/\(database.name)"
  }

  /// Runs PgBouncer, and runs `body` when PgBouncer accepts connections.
  public static func serving<R: Sendable>(
    _ configuration: Configuration, isolation: isolated (any Actor)? = #isolation,
    _ body: (Pooler) async throws -> R
  ) async throws -> R {
    let server = try TestServer.fromEnvironment()
    let address = LoopbackAddress.random()
    return try await withTemporaryDirectory { directory in
      let file = directory.appending("pgbouncer.ini").string
      try """
      [databases]
      * = host=\(server.host) user=\(server.user)
      [pgbouncer]
      listen_addr = \(address.host)
      listen_port = \(address.port)
      unix_socket_dir =
      auth_type = any
      pool_mode = \(configuration.mode.rawValue)
      default_pool_size = \(configuration.sessionsMax)
      server_round_robin = \(configuration.isRoundRobin ? 1 : 0)
      server_reset_query = \(configuration.resetQuery)
      """.write(toFile: file, atomically: true, encoding: .utf8)
      // PgBouncer refuses to run as root.
      let user = geteuid() == 0 ? ["-u", "postgres"] : []
      return try await ExternalServer.running(
        ["/usr/sbin/pgbouncer"] + user + [file], at: address, scratch: directory
      ) { try await body(Pooler(address: address)) }
    }
  }
}
