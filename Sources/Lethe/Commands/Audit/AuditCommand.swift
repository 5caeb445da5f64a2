import ArgumentParser
import Evidence
import Foundation
import Ledger
import PostgreSQL
import Vocabulary

/// `lethe audit show|export|prune|verify`: the evidence.
struct AuditCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "audit",
    abstract:
      "Show, export, prune and verify the evidence: what was done, when, and who decided it.",
    subcommands: [AuditShow.self, AuditExport.self, AuditPrune.self, AuditVerify.self])

  /// Runs `body` with the ledger of a database.
  static func withLedger<R: Sendable>(
    _ connectionString: ConnectionString, _ body: (AuditLedger) async throws -> R
  ) async throws -> R {
    try await LetheCommands.withLedger(connectionString) {
      try await body(AuditLedger(connection: $0))
    }
  }
}

/// A command line argument: a time with its offset, or a date, which means midnight in UTC.
struct TimestampArgument: ExpressibleByArgument {
  let time: Timestamp
  private let text: String

  init?(argument: String) {
    guard let time = Timestamp(argument) ?? Timestamp(argument + "T00:00:00Z") else { return nil }
    self.time = time
    text = argument
  }

  var defaultValueDescription: String { text }
}

/// Cuts a time to seconds, for tables.
func seconds(_ time: String) -> String {
  time.prefix(19) + "Z"
}
