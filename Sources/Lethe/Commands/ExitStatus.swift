import ApplyStage
import ChunkFiles
import ComplianceAPI
internal import DefinitionFiles
import Definitions
import Ledger
import Migrations
import PostgreSQL
import Runtime
import Warehouse

/// What the process says to whoever started it. Thrown by a command that has said the rest already.
enum ExitStatus: Int32, Error {
  case done = 0
  case failed = 1
  /// The command line or the definition is wrong. Nothing has run.
  case usage = 2
  case limitStopped = 3
  case quarantined = 4
  /// A chunk or an event was set aside.
  case setAside = 5
  case locked = 6
  /// Nothing is wrong but the moment: run again.
  case temporary = 75
  case credentials = 77
  case idle = 99

  /// Nil for an error that is none of Lethe's own.
  init?(of error: any Error) {
    switch error {
    case is DefinitionError, is ForeignMigrations, is LedgerUnfit: self = .usage
    case is UnfitRun: self = .failed
    case is PipelineLocked: self = .locked
    case is Interrupted, is CancellationError: self = .temporary
    case let error as LedgerError: self = Self.status(of: error)
    case let error as APIError: self = Self.status(of: error)
    case let error as PostgreSQLError: self = Self.status(of: error)
    case let error as GuardError: self = error.isTemporary ? .temporary : .failed
    case is MigrationError, is ApplyError, is ChunkFileError, is CommandError: self = .failed
    default: return nil
    }
  }

  private static func status(of error: LedgerError) -> ExitStatus {
    switch error.code {
    case .leaseLost: .locked
    case .limited: .limitStopped
    case .missing, .unreadable, .refused: .failed
    }
  }

  private static func status(of error: APIError) -> ExitStatus {
    switch error.kind {
    case .credentials, .creditsDepleted, .proxyRefused: .credentials
    case .temporary, .rateLimited, .capped, .conflict, .urlRefused: .temporary
    case .hostNotAllowed: .usage
    case .invalidRequest, .jobRefused, .misdirected, .untrusted, .notFound, .tooLarge, .unproven,
      .incompleteResult, .noResult, .localFile:
      .failed
    }
  }

  private static func status(of error: PostgreSQLError) -> ExitStatus {
    switch error.code {
    case .connectionFailed: status(ofFailedConnection: error.message)
    case .malformedConnectionString, .unusableSession: .usage
    default: error.isTemporary ? .temporary : .failed
    }
  }

  /// libpq has no SQLSTATE for a connection that was refused; its words and the server's are all there is.
  private static func status(ofFailedConnection message: String) -> ExitStatus {
    // What is quoted is a name of somebody's.
    let plain = message.replacing(/"[^"]*"/, with: "")
    func says(_ words: [String]) -> Bool { words.contains(where: plain.contains) }
    if says(["authentication failed", "no password supplied", "no pg_hba.conf entry"]) {
      return .credentials
    }
    // What was written wrong, or does not go together.
    if says([
      "invalid ", "unrecognized ", "server does not support", "SSL was required", "SSL error",
      "certificate", "private key", "definition of service", "service file",
    ]) {
      return .usage
    }
    // A role or a database, which no later try will find; or what its owner forbids.
    return says([
      "does not exist", "permission denied", "is not permitted", "not currently accepting",
    ])
      ? .failed : .temporary
  }

  /// What a run's reports amount to.
  /// - Parameter openLines: of the pipeline's quarantine.
  init(of reports: [RunReport], openLines: Int = 0) {
    if reports.contains(where: { $0.unfit != nil }) {
      self = .failed
    } else if reports.contains(where: { !$0.stopped.isEmpty || !$0.stoppedDatasets.isEmpty }) {
      self = .limitStopped
    } else if reports.contains(where: { !$0.failures.isEmpty || !$0.refused.isEmpty }) {
      self = .setAside
    } else if openLines > 0 || reports.contains(where: { $0.quarantined > 0 }) {
      self = .quarantined
    } else {
      self = .done
    }
  }

  /// The `code` of a JSON object's error.
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

/// A command cannot be carried out as it was given.
struct CommandError: Error, CustomStringConvertible {
  let message: String
  let remedy: String

  var description: String { "\(message)\n  remedy: \(remedy)" }
}
