internal import CLibPQ
import Dispatch
import Synchronization

/// libpq at work on a connection, which may take as long as `connect_timeout`. Whoever waits for it can go
/// away before.
final class Opening: Sendable {
  /// An address of libpq's, which nobody else has.
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
    let opening = Opening()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        guard opening.begin(continuation) else { return }
        queue.async {
          let pointer = withCStrings(keywords) { keywords in
            withCStrings(values) { values in PQconnectdbParams(keywords, values, 1) }
          }
          let handle = Handle(address: UInt(bitPattern: pointer))
          guard let waiting = opening.end() else { return PQfinish(pointer) }
          waiting.resume(returning: handle)
        }
      }
    } onCancel: {
      opening.end()?.resume(throwing: CancellationError())
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

  /// - Returns: who waits, the first time.
  private func end() -> CheckedContinuation<Handle, any Error>? {
    state.withLock { state in
      guard case .waiting(let continuation) = state else { return nil }
      state = .over
      return continuation
    }
  }
}
