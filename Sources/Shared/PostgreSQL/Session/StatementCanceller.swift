internal import CLibPQ
import Dispatch
import Synchronization

/// Cancels the statement that a connection is running, never a later statement.
///
/// A cancel request uses a separate connection. If it arrives after its statement has ended, it would cancel the next
/// statement. So `end` waits until all requests that have begun are done. If the server does not respond, `end` waits
/// until the connection is aborted, because no statement can follow after that.
final class StatementCanceller: Sendable {
  private struct State {
    var statement = 0
    var isRunning = false
    var session: Session
  }

  /// libpq's data for the cancel requests of one session.
  private final class Session: Sendable {
    // Safe to share: libpq documents PQcancel as safe to call from any thread, it only reads the
    // PGcancel, and nothing else uses the pointer until deinit.
    nonisolated(unsafe) let handle: OpaquePointer?

    init(_ connection: OpaquePointer) { handle = PQgetCancel(connection) }

    deinit { PQfreeCancel(handle) }
  }

  private static let repeatInterval = DispatchTimeInterval.milliseconds(100)
  private static let pollInterval = DispatchTimeInterval.milliseconds(50)

  private let socket: ConnectionSocket
  private let state: Mutex<State>
  /// The requests in progress.
  private let requests = DispatchGroup()

  init(connection: OpaquePointer, socket: ConnectionSocket) {
    state = Mutex(State(session: Session(connection)))
    self.socket = socket
  }

  /// Sends later requests to the connection's new session. No statement may be running.
  func replace(connection: OpaquePointer) {
    state.withLock { $0.session = Session(connection) }
  }

  /// Marks the beginning of a statement.
  /// - Returns: the statement's number.
  func begin() -> Int {
    state.withLock { state in
      state.statement += 1
      state.isRunning = true
      return state.statement
    }
  }

  func end() {
    state.withLock { $0.isRunning = false }
    waitForRequests()
  }

  /// Asks the server to cancel the statement, unless it has ended. Returns at once.
  ///
  /// If the server has not begun the statement yet, it ignores the request. So the request is repeated until the
  /// statement has ended.
  func cancel(statement: Int) {
    request(statement) {
      DispatchQueue.global().asyncAfter(deadline: .now() + Self.repeatInterval) {
        self.cancel(statement: statement)
      }
    }
  }

  /// Sends one request, and blocks until the server has received it.
  func cancelAndWait(statement: Int) {
    request(statement) {}
    waitForRequests()
  }

  /// PQcancel blocks, so it runs on another thread.
  private func request(_ statement: Int, then completion: @escaping @Sendable () -> Void) {
    let session: Session? = state.withLock { state in
      guard state.isRunning, state.statement == statement else { return nil }
      requests.enter()
      return state.session
    }
    guard let session else { return }
    DispatchQueue.global().async {
      var message = [CChar](repeating: 0, count: 256)
      _ = PQcancel(session.handle, &message, Int32(message.count))
      self.requests.leave()
      completion()
    }
  }

  private func waitForRequests() {
    while requests.wait(timeout: .now() + Self.pollInterval) == .timedOut, !socket.wasShutDown {}
  }
}
