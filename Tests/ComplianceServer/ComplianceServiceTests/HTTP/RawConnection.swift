import Foundation
import TestSupport

/// A TCP connection over which a test sends exact bytes.
final class RawConnection {
  struct Failed: Error, CustomStringConvertible {
    let description: String
  }

  /// `host:port`
  let authority: String
  /// The path and query of the URL.
  let target: String
  private var descriptor: Int32

  init(to url: String) throws {
    guard let parts = URLComponents(string: url), let host = parts.host, let port = parts.port
    else { throw Failed(description: "not a URL: \(url)") }
    authority = "\(host):\(port)"
    target = String(url.dropFirst("http://\(authority)".count))
    // Without CLOEXEC, processes that other tests start would inherit the connection and keep it open.
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    inet_pton(AF_INET, host, &address.sin_addr)
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else {
      close()
      throw Failed(description: "cannot connect to \(authority)")
    }
  }

  deinit { close() }

  func send(_ text: String) throws { try send(Array(text.utf8)) }

  /// - Throws: `Failed` if the server has closed the connection.
  func send(_ bytes: [UInt8]) throws {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { throw Failed(description: "the connection is closed") }
      sent += count
    }
  }

  /// Closes the sending side. Reading is still possible.
  func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// Reads until the server closes the connection.
  func readToEnd() async -> String { await read { _ in false } }

  /// Reads until the text contains `end`, or the server closes the connection.
  func read(until end: String) async -> String { await read { $0.contains(end) } }

  private func read(until isEnough: @escaping @Sendable (String) -> Bool) async -> String {
    let descriptor = descriptor
    return await blocking {
      var bytes: [UInt8] = []
      var block = [UInt8](repeating: 0, count: 4096)
      while !isEnough(String(decoding: bytes, as: UTF8.self)) {
        let count = Foundation.read(descriptor, &block, block.count)
        guard count > 0 else { break }
        bytes += block[..<count]
      }
      return String(decoding: bytes, as: UTF8.self)
    }
  }

  /// Whether unread bytes have arrived.
  var hasBytes: Bool {
    var byte: UInt8 = 0
    return recv(descriptor, &byte, 1, Int32(MSG_DONTWAIT | MSG_PEEK)) > 0
  }

  /// Closes the connection with a TCP reset.
  func reset() {
    var atOnce = linger(l_onoff: 1, l_linger: 0)
    setsockopt(
      descriptor, SOL_SOCKET, SO_LINGER, &atOnce, socklen_t(MemoryLayout<linger>.size))
    close()
  }

  func close() {
    guard descriptor >= 0 else { return }
    Foundation.close(descriptor)
    descriptor = -1
  }
}
