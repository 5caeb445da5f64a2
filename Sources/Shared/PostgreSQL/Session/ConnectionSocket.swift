internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// A connection's socket under a descriptor of our own. libpq closes its own whenever it likes, and then
/// the number may be somebody else's file already.
final class ConnectionSocket: Sendable {
  private let descriptor: Int32
  private let isDown = Atomic(false)

  /// - Throws: `PostgreSQLError` if the process may open no more files.
  init(copying descriptor: Int32) throws {
    // Programs that this process starts would keep it open.
    self.descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
    guard self.descriptor >= 0 else {
      throw PostgreSQLError(
        code: .connectionFailed, message: "the process may open no more files",
        hint: "raise its limit of open files")
    }
  }

  deinit { close(descriptor) }

  /// Whether `shutDown` was called.
  var wasShutDown: Bool { isDown.load(ordering: .relaxed) }

  /// Whoever waits for it finds its end.
  func shutDown() {
    isDown.store(true, ordering: .relaxed)
    shutdown(descriptor, Int32(SHUT_RDWR))
  }
}
