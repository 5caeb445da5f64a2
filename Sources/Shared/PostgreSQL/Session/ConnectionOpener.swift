internal import CLibPQ
import Dispatch
import Synchronization

/// Opens a connection with libpq, which may take as long as `connect_timeout` for each address of the server. The
/// waiting task can be cancelled earlier.
final class ConnectionOpener: Sendable {
  /// libpq's pointer. Only one owner has it, so it can be sent between tasks.
  struct Handle: Sendable {
    fileprivate let address: UInt

    var pointer: OpaquePointer? { OpaquePointer(bitPattern: address) }
  }

  private enum State {
    case waiting(CheckedContinuation<Handle, any Error>?)
    case over
  }

  private let state = Mutex(State.waiting(nil))

  /// - Throws: `CancellationError` as soon as the task is cancelled.
  static func handle(
    _ keywords: [String], _ values: [String], on queue: DispatchQueue
  ) async throws -> Handle {
    let opener = ConnectionOpener()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        guard opener.begin(continuation) else { return }
        queue.async {
          let pointer = withCStrings(keywords) { keywords in
            withCStrings(values) { values in PQconnectdbParams(keywords, values, 1) }
          }
          let handle = Handle(address: UInt(bitPattern: pointer))
          guard let waiting = opener.end() else { return PQfinish(pointer) }
          waiting.resume(returning: handle)
        }
      }
    } onCancel: {
      opener.end()?.resume(throwing: CancellationError())
    }
  }

  /// - Returns: false if the task was cancelled before.
  private func begin(_ continuation: CheckedContinuation<Handle, any Error>) -> Bool {
    let isOver = state.withLock { state in
      if case .over = state { return true }
      state = .waiting(continuation)
      return false
    }
    if isOver { continuation.resume(throwing: CancellationError()) }
    return !isOver
  }

  /// - Returns: the waiting continuation. Nil if no task waits yet, or if this was called before.
  private func end() -> CheckedContinuation<Handle, any Error>? {
    state.withLock { state in
      guard case .waiting(let continuation) = state else { return nil }
      state = .over
      return continuation
    }
  }
}
