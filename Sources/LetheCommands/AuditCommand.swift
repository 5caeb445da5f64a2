import ArgumentParser
import Foundation
import Ledger
import PostgreSQL
import Vocabulary

/// `lethe audit show|export|prune|verify`: evidence.
struct AuditCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "audit",
    abstract: "Show, export, prune and verify the evidence: what was done, when, on whose word.",
    subcommands: [AuditShow.self, AuditExport.self, AuditPrune.self, AuditVerify.self])

  /// Runs `body` with the ledger of a database.
  static func withLedger<R: Sendable>(
    _ connectionString: ConnectionString, _ body: (AuditLedger) async throws -> R
  ) async throws -> R {
    do {
      return try await Connection.withConnection(connectionString) {
        try await body(AuditLedger(connection: $0))
      }
    } catch let error as PostgreSQLError where error.isOfMissingLedger {
      throw CommandError(
        message: "the database has no ledger, or an old one: \(error.message)",
        remedy: "lethe migrate up")
    }
  }
}

extension PostgreSQLError {
  /// A table, a column or a function of the ledger's schema is not there.
  fileprivate var isOfMissingLedger: Bool {
    ["42P01", "3F000", "42703", "42883", "42704"].contains(state?.rawValue)
  }
}

/// A date, which is its midnight in UTC, or a time with its offset.
struct Instant: ExpressibleByArgument {
  let time: Timestamp
  private let text: String

  init?(argument: String) {
    guard let time = Timestamp(argument) ?? Timestamp(argument + "T00:00:00Z") else { return nil }
    self.time = time
    text = argument
  }

  var defaultValueDescription: String { text }
}

/// Where a table shows times, seconds are enough.
func seconds(_ time: String) -> String {
  time.prefix(19) + "Z"
}
