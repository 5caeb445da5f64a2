internal import Synchronization

/// A gate that the code under test passes when it reaches certain points. A test can hold the code at a point and
/// interrupt it there, without waiting for a time.
///
///     let gate = TestGate<ServicePoint>()
///     configuration.gate = { await gate.pass($0) }
///     gate.hold { $0 == .uploadReceived(jobID: id) }
///     …
///     try await gate.reached { $0 == .uploadReceived(jobID: id) }
///     gate.release()
///
/// A held call returns when its task is cancelled. A waiting call throws.
public final class TestGate<Point: Hashable & Sendable>: Sendable {
  public typealias Condition = @Sendable (Point) -> Bool

  private struct Held {
    let point: Point
    let continuation: CheckedContinuation<Void, Never>
  }

  private struct Waiting {
    let condition: Condition
    let times: Int
    let continuation: CheckedContinuation<Void, any Error>
  }

  private struct State {
    var history: [Point] = []
    var holds: [Condition] = []
    var held: [Int: Held] = [:]
    var waiting: [Int: Waiting] = [:]
    var lastNumber = 0

    mutating func newNumber() -> Int {
      lastNumber += 1
      return lastNumber
    }

    func hasReached(_ condition: Condition, times: Int) -> Bool {
      history.count(where: condition) >= times
    }
  }

  private let state = Mutex(State())

  public init() {}

  /// All points that were reached, in order.
  public var history: [Point] { state.withLock { $0.history } }

  // MARK: The code under test

  /// Records the point, and then waits while a hold matches the point.
  public func pass(_ point: Point) async {
    record(point)
    let number = state.withLock { $0.newNumber() }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isHeld = state.withLock { state in
          guard state.holds.contains(where: { $0(point) }), !Task.isCancelled else { return false }
          state.held[number] = Held(point: point, continuation: continuation)
          return true
        }
        if !isHeld { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.held.removeValue(forKey: number) }?.continuation.resume()
    }
  }

  private func record(_ point: Point) {
    let ready = state.withLock { state in
      state.history.append(point)
      let ready = state.waiting.filter {
        state.hasReached($0.value.condition, times: $0.value.times)
      }
      for number in ready.keys { state.waiting[number] = nil }
      return ready.values.map(\.continuation)
    }
    for continuation in ready { continuation.resume() }
  }

  // MARK: The test

  /// Holds the code at every matching point from now on.
  public func hold(_ condition: @escaping Condition) {
    state.withLock { $0.holds.append(condition) }
  }

  /// Releases all held code and removes all holds.
  public func release() {
    let held = state.withLock { state in
      state.holds = []
      defer { state.held = [:] }
      return state.held.values.map(\.continuation)
    }
    for continuation in held { continuation.resume() }
  }

  /// Returns when a matching point has been reached `times` times since the gate's creation.
  /// - Throws: `CancellationError`.
  public func reached(times: Int = 1, _ condition: @escaping Condition) async throws {
    let number = state.withLock { $0.newNumber() }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation {
        (continuation: CheckedContinuation<Void, any Error>) in
        let result: Result<Void, any Error>? = state.withLock { state in
          if state.hasReached(condition, times: times) { return .success(()) }
          if Task.isCancelled { return .failure(CancellationError()) }
          state.waiting[number] = Waiting(
            condition: condition, times: times, continuation: continuation)
          return nil
        }
        if let result { continuation.resume(with: result) }
      }
    } onCancel: {
      state.withLock { $0.waiting.removeValue(forKey: number) }?.continuation
        .resume(throwing: CancellationError())
    }
  }
}
