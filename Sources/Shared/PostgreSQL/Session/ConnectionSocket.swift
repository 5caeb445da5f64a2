internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// A connection's socket. It has a duplicate of libpq's file descriptor, because libpq can close its own descriptor at
/// any time, and the number could then belong to another file.
final class ConnectionSocket: Sendable {
  private struct State {
    var descriptor: Int32
    var isDown = false
  }

  private let state: Mutex<State>

  /// - Throws: `PostgreSQLError` if the process has reached its limit of open files.
  init(copying descriptor: Int32) throws {
    state = Mutex(State(descriptor: try Self.copy(descriptor)))
  }

  deinit { state.withLock { _ = close($0.descriptor) } }

  /// Replaces the socket by the socket of the connection's new session. If `shutDown` was called, the new socket is
  /// also shut down.
  /// - Throws: `PostgreSQLError` if the process has reached its limit of open files.
  func replace(copying descriptor: Int32) throws {
    let copy = try Self.copy(descriptor)
    state.withLock { state in
      close(state.descriptor)
      state.descriptor = copy
      if state.isDown { shutdown(copy, Int32(SHUT_RDWR)) }
    }
  }

  private static func copy(_ descriptor: Int32) throws -> Int32 {
    // With CLOEXEC, child processes do not keep the descriptor open.
    let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else {
      throw PostgreSQLError(
        code: .connectionFailed, message: "the process has reached its limit of open files",
        hint: "raise the limit of open files")
    }
    return copy
  }

  /// Whether `shutDown` was called.
  var wasShutDown: Bool { state.withLock { $0.isDown } }

  /// Shuts the socket down, so that a call that waits for the socket returns at once.
  func shutDown() {
    state.withLock { state in
      state.isDown = true
      shutdown(state.descriptor, Int32(SHUT_RDWR))
    }
  }
}
