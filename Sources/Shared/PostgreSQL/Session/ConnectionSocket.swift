internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// A connection's socket, with a duplicate of libpq's descriptor. libpq can close its own descriptor at any time, and
/// the number could then belong to another file.
final class ConnectionSocket: Sendable {
  private let descriptor: Int32
  private let isDown = Atomic(false)

  /// - Throws: `PostgreSQLError` if the process has reached its limit of open files.
  init(copying descriptor: Int32) throws {
    // With CLOEXEC, child processes do not keep it open.
    self.descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
    guard self.descriptor >= 0 else {
      throw PostgreSQLError(
        code: .connectionFailed, message: "the process has reached its limit of open files",
        hint: "raise the limit of open files")
    }
  }

  deinit { close(descriptor) }

  /// Whether `shutDown` was called.
  var wasShutDown: Bool { isDown.load(ordering: .relaxed) }

  /// Shuts the socket down: a call that waits for it returns at once.
  func shutDown() {
    isDown.store(true, ordering: .relaxed)
    shutdown(descriptor, Int32(SHUT_RDWR))
  }
}
