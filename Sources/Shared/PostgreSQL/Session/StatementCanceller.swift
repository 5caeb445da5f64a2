internal import CLibPQ
import Dispatch
import Synchronization

/// Cancels the statement that a connection is running, and never a later one.
///
/// A cancel request travels on a connection of its own. One that is still on its way when its
/// statement ends would hit the next statement; so the end of a statement waits, on the same lock,
/// for a request that has begun.
final class StatementCanceller: Sendable {
  private struct State {
    var statement = 0
    var isRunning = false
  }

  private static let repeatInterval = DispatchTimeInterval.milliseconds(100)

  // Safe to share: libpq documents PQcancel as safe to call from any thread, it only reads the
  // PGcancel, and nothing else uses the pointer until deinit.
  private nonisolated(unsafe) let handle: OpaquePointer?
  private let state = Mutex(State())

  init(connection: OpaquePointer) {
    handle = PQgetCancel(connection)
  }

  deinit { PQfreeCancel(handle) }

  /// Marks the begin of a statement; the returned number names it.
  func begin() -> Int {
    state.withLock { state in
      state.statement += 1
      state.isRunning = true
      return state.statement
    }
  }

  func end() {
    state.withLock { $0.isRunning = false }
  }

  /// Asks the server to cancel the statement unless it has ended. Returns at once: PQcancel blocks,
  /// so it runs on another thread.
  ///
  /// A server that has not begun the statement yet takes the request for nothing, so it is repeated
  /// until the statement has ended.
  func cancel(statement: Int) {
    DispatchQueue.global().async {
      guard self.cancelAndWait(statement: statement) else { return }
      DispatchQueue.global().asyncAfter(deadline: .now() + Self.repeatInterval) {
        self.cancel(statement: statement)
      }
    }
  }

  /// Asks once, returning when the server has taken the request. Blocks.
  /// - Returns: false if the statement had ended.
  @discardableResult
  func cancelAndWait(statement: Int) -> Bool {
    state.withLock { state in
      guard state.isRunning, state.statement == statement else { return false }
      var message = [CChar](repeating: 0, count: 256)
      _ = PQcancel(handle, &message, Int32(message.count))
      return true
    }
  }
}
