internal import Failures
import UnixSignals

/// Somebody asked the process to end. What was done is in the ledger.
struct Interrupted: ExplainedError {
  /// Nil where nothing tells which.
  let signal: UnixSignal?

  var message: String {
    """
    ended by \(signal.map { "\($0)" } ?? "a signal"): the transaction in flight was finished or rolled back
    """
  }
  var remedy: String { "run again; it goes on where it stood" }
  var disposition: Disposition { .temporary }
}

/// Runs `body` until it ends or SIGTERM or SIGINT comes; a signal cancels it and waits for it.
func untilSignalled(_ body: @escaping @Sendable () async throws -> Void) async throws {
  try await withThrowingTaskGroup(of: Void.self) { group in
    group.addTask { try await body() }
    group.addTask {
      for await signal in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
        throw Interrupted(signal: signal)
      }
    }
    defer { group.cancelAll() }
    try await group.next()
  }
}
