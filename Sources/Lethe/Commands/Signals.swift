internal import Failures
import UnixSignals

/// The error of a process that a signal has ended. The finished work is in the ledger.
struct Interrupted: ExplainedError {
  /// Nil if the signal is not known.
  let signal: UnixSignal?

  var message: String {
    """
    ended by \(signal.map { "\($0)" } ?? "a signal"): the open transaction was finished or rolled back
    """
  }
  var remedy: String { "run again; the run continues where it stopped" }
  var disposition: Disposition { .temporary }
}

/// Runs `body`. SIGTERM or SIGINT cancels `body`, and the function returns after `body` has ended.
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
