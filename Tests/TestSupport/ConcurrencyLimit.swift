internal import Synchronization

/// Limits how many tests use a database at the same time. Without the limit, the tests would need more connections
/// than the server allows.
final class ConcurrencyLimit: Sendable {
  private struct State {
    var freeSlots: Int
    var waiting: [(number: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    var lastNumber = 0
  }

  private let state: Mutex<State>

  /// Whether the current test has a slot. Such a test gets another database without a second slot. Otherwise, all tests
  /// could wait for their second slot for ever.
  @TaskLocal private static var hasSlot = false

  init(_ count: Int) {
    state = Mutex(State(freeSlots: count))
  }

  func withSlot<R: Sendable>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> R
  ) async throws -> R {
    guard !Self.hasSlot else { return try await body() }
    try await acquire()
    defer { release() }
    return try await Self.$hasSlot.withValue(true, operation: body)
  }

  private func acquire() async throws {
    let number = state.withLock { state in
      state.lastNumber += 1
      return state.lastNumber
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation {
        (continuation: CheckedContinuation<Void, any Error>) in
        let result: Result<Void, any Error>? = state.withLock { state in
          if Task.isCancelled { return .failure(CancellationError()) }
          if state.freeSlots > 0 {
            state.freeSlots -= 1
            return .success(())
          }
          state.waiting.append((number, continuation))
          return nil
        }
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      let continuation = state.withLock { state in
        state.waiting.firstIndex { $0.number == number }.map {
          state.waiting.remove(at: $0).continuation
        }
      }
      continuation?.resume(throwing: CancellationError())
    }
  }

  private func release() {
    let next: CheckedContinuation<Void, any Error>? = state.withLock { state in
      guard state.waiting.isEmpty else { return state.waiting.removeFirst().continuation }
      state.freeSlots += 1
      return nil
    }
    next?.resume()
  }
}
