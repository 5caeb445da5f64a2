internal import Foundation

/// A random loopback address and port, for a server that cannot choose a free port itself. Conflicts are unlikely:
/// there are 16 million loopback addresses, and the port is below the kernel's range of ephemeral ports.
public struct LoopbackAddress: Sendable, Hashable, CustomStringConvertible {
  public let host: String
  public let port: Int

  /// The address as text, such as `127.83.1.2:20123`.
  public var description: String { "\(host):\(port)" }

  public static func random() -> LoopbackAddress {
    let parts = (1...3).map { _ in String(Int.random(in: 1...254)) }
    return LoopbackAddress(
      host: "127." + parts.joined(separator: "."), port: .random(in: 20_000..<30_000))
  }

  /// Whether a server accepts connections at this address.
  var acceptsConnections: Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else { return false }
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }
}
