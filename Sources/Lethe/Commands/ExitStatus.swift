internal import Failures
import Runtime

/// The exit code of the process. A command throws it after it has written its result.
enum ExitStatus: Int32, Error, CaseIterable {
  case done = 0
  case failed = 1
  /// The command line, the definition, the environment or the ledger's version is wrong.
  case usage = 2
  case limitStopped = 3
  case quarantined = 4
  /// A chunk or an event was set aside, or a dataset was not completely exported because of an error.
  case setAside = 5
  case locked = 6
  /// A temporary failure. The same command can succeed later.
  case temporary = 75
  case credentials = 77
  case idle = 99

  init(_ disposition: Disposition) {
    switch disposition {
    case .usage: self = .usage
    case .refused: self = .setAside
    case .held: self = .locked
    case .temporary: self = .temporary
    case .credentials: self = .credentials
    case .failed: self = .failed
    }
  }

  /// The exit code for the reports of runs.
  /// - Parameter openLines: the number of open lines in the pipeline's quarantine.
  init(of reports: [RunReport], openLines: Int = 0) {
    if reports.contains(where: { $0.unfit != nil }) {
      self = .failed
    } else if reports.contains(where: { !$0.stopped.isEmpty || !$0.stoppedDatasets.isEmpty }) {
      self = .limitStopped
    } else if reports.contains(where: { !$0.failures.isEmpty || !$0.refused.isEmpty }) {
      self = .setAside
    } else if openLines > 0 {
      self = .quarantined
    } else {
      self = .done
    }
  }

  /// The value of `error.code` in the JSON output.
  var word: String {
    switch self {
    case .done: "done"
    case .failed: "failed"
    case .usage: "usage"
    case .limitStopped: "limit_stopped"
    case .quarantined: "quarantined"
    case .setAside: "set_aside"
    case .locked: "locked"
    case .temporary: "temporary"
    case .credentials: "credentials"
    case .idle: "idle"
    }
  }
}

/// The error of a command that cannot do what it was called for.
struct CommandError: ExplainedError {
  let message: String
  let remedy: String
  var disposition: Disposition { .failed }
}

/// An error of the system or of a library that no other code has explained.
struct UnexpectedError: ExplainedError {
  let message: String
  var remedy: String { "see the log on stderr for details; if the error occurs again, report it" }
  var disposition: Disposition { .failed }
}
