import Dispatch
internal import Failures
import Foundation
import Synchronization

/// The error of a process that a signal has stopped. All finished work is recorded in the ledger.
struct Interrupted: ExplainedError {
  /// Nil if the signal is not known.
  let signal: String?

  var message: String {
    """
    ended by \(signal ?? "a signal"): the open transaction was finished or rolled back
    """
  }
  var remedy: String { "run again; the run continues where it stopped" }
  var disposition: Disposition { .temporary }
}

/// How the process handles signals.
enum ProcessSignals {
  /// The longest time that the process may take to end after the first signal.
  private static let endingMax = Duration.seconds(4.7)
  /// A SIGTERM or SIGHUP that comes again within this time counts as the same signal: a parent such as make may forward
  /// it to its child, although the child has received it as well.
  private static let repetitionMax = Duration.seconds(1)

  private struct State {
    /// The first signal.
    var received: String?
    var receivedAt = ContinuousClock.now
    var work: Task<Void, any Error>?
  }

  private static let state = Mutex(State())

  /// Prepares the process. Call this once, before anything else.
  ///
  /// - SIGTERM, SIGINT and SIGHUP are trapped: see `untilSignalled`.
  /// - SIGPIPE is ignored: if nobody reads the log any more, the work continues.
  /// - The owner's permissions are never masked. Otherwise Lethe could not read the files that it has written itself.
  static func prepareProcess() {
    signal(SIGPIPE, SIG_IGN)
    let mask = umask(0o077)
    umask(mask & 0o077)
    // The queue has threads of its own. The work may block all threads of the tasks.
    let queue = DispatchQueue(label: "lethe.signals")
    for (number, name) in ending {
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      // A source that nobody keeps would be cancelled, so its handler keeps it.
      source.setEventHandler { withExtendedLifetime(source) { arrived(name) } }
      source.resume()
    }
  }

  /// The signals that end the work, with their names. SIGHUP is not one of them if the process was started with
  /// `nohup`.
  private static var ending: [Int32: String] {
    var signals = [SIGTERM: "SIGTERM", SIGINT: "SIGINT"]
    var former = sigaction()
    sigaction(SIGHUP, nil, &former)
    // SIG_IGN has the value 1.
    if unsafeBitCast(former.__sigaction_handler.sa_handler, to: Int.self) != 1 {
      signals[SIGHUP] = "SIGHUP"
    }
    return signals
  }

  private static func arrived(_ name: String) {
    let (first, receivedAt, work) = state.withLock { state in
      let former = (state.received, state.receivedAt, state.work)
      if state.received == nil { (state.received, state.receivedAt) = (name, .now) }
      return former
    }
    if let first {
      // Nobody forwards SIGINT: it comes from a person.
      if first == name, name != "SIGINT", .now - receivedAt < repetitionMax { return }
      endAtOnce()
    }
    Thread.detachNewThread {
      Thread.sleep(forTimeInterval: endingMax / .seconds(1))
      endAtOnce()
    }
    work?.cancel()
  }

  /// Ends the process. The server rolls its transactions back, as after a crash.
  private static func endAtOnce() -> Never {
    _exit(ExitStatus.temporary.rawValue)
  }

  /// Runs `body` in a task that the first signal cancels, even if the signal has arrived before this call.
  /// - Returns: the outcome of `body`, and the first signal.
  fileprivate static func run(
    _ body: @escaping @Sendable () async throws -> Void
  ) async -> (Result<Void, any Error>, String?) {
    let work = Task { try await body() }
    let early = state.withLock { state in
      state.work = work
      return state.received
    }
    if early != nil { work.cancel() }
    let result = await work.result
    return (result, state.withLock { $0.received })
  }
}

/// Runs `body`. SIGTERM, SIGINT or SIGHUP cancels `body`. If `body` then ends with an error that is not an
/// `ExitStatus`, the function throws `Interrupted` instead.
///
/// A second signal ends the process at once, unless it is the same SIGTERM or SIGHUP again within a second. The process
/// also ends if it still runs a few seconds after the first signal, for example because nobody reads its output.
/// Nothing is lost, because all finished work is in the ledger.
func untilSignalled(_ body: @escaping @Sendable () async throws -> Void) async throws {
  let (result, signal) = await ProcessSignals.run(body)
  // A command that throws its exit status has already written its result.
  if case .failure(let error) = result, let signal, !(error is ExitStatus) {
    throw Interrupted(signal: signal)
  }
  try result.get()
}
