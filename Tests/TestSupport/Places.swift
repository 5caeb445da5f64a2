internal import Synchronization

/// Lets a few tests at a time have a database: all of them at once would ask the server for more
/// connections than it has.
final class Places: Sendable {
  private struct State {
    var free: Int
    var waiting: [(number: Int, goOn: CheckedContinuation<Void, any Error>)] = []
    var lastNumber = 0
  }

  private let state: Mutex<State>

  /// A test that has a place already gets another database without waiting for a second place, which
  /// all of them could do for ever.
  @TaskLocal private static var hasPlace = false

  init(_ count: Int) {
    state = Mutex(State(free: count))
  }

  func withPlace<R: Sendable>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> R
  ) async throws -> R {
    guard !Self.hasPlace else { return try await body() }
    try await take()
    defer { giveBack() }
    return try await Self.$hasPlace.withValue(true, operation: body)
  }

  private func take() async throws {
    let number = state.withLock { state in
      state.lastNumber += 1
      return state.lastNumber
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (goOn: CheckedContinuation<Void, any Error>) in
        let result: Result<Void, any Error>? = state.withLock { state in
          if Task.isCancelled { return .failure(CancellationError()) }
          if state.free > 0 {
            state.free -= 1
            return .success(())
          }
          state.waiting.append((number, goOn))
          return nil
        }
        if let result { goOn.resume(with: result) }
      }
    } onCancel: {
      let goOn = state.withLock { state in
        state.waiting.firstIndex { $0.number == number }.map { state.waiting.remove(at: $0).goOn }
      }
      goOn?.resume(throwing: CancellationError())
    }
  }

  private func giveBack() {
    let next: CheckedContinuation<Void, any Error>? = state.withLock { state in
      guard state.waiting.isEmpty else { return state.waiting.removeFirst().goOn }
      state.free += 1
      return nil
    }
    next?.resume()
  }
}
