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
  func cancel(statement: Int) {
    DispatchQueue.global().async { self.cancelAndWait(statement: statement) }
  }

  /// The same, returning once the server has taken the request. Blocks.
  func cancelAndWait(statement: Int) {
    state.withLock { state in
      guard state.isRunning, state.statement == statement else { return }
      var message = [CChar](repeating: 0, count: 256)
      _ = PQcancel(handle, &message, Int32(message.count))
    }
  }
}
