import Foundation
public import Ledger
public import PostgreSQL
import Results
public import Vocabulary

/// Quarantine → events: reads quarantined lines of an applied chunk again, because a newer version of Lethe may
/// understand lines that an older version did not. The result itself and the chunk's file are already deleted.
public struct QuarantineRetry: Sendable {
  private let connection: Connection
  private let ledger: ChunkLedger

  public struct Outcome: Sendable, Equatable {
    /// Lines that became events and wait to be applied.
    public let events: Int
    /// The number of these events that a newer answer supersedes. They change nothing.
    public let superseded: Int
  }

  public init(connection: Connection, ledger: ChunkLedger) {
    self.connection = connection
    self.ledger = ledger
  }

  /// Reads the lines. If at least one becomes an event, moves the chunk back to `collected`. Records why a selected
  /// line that can be read now does not become an event. All of this is one transaction.
  ///
  /// - Parameters:
  ///   - selected: the lines that may be resolved. Nil for all. The other lines are read, too, because
  ///     they may contradict a selected line.
  ///   - refused: the IDs whose lines stay unchanged.
  ///   - reasons: the reasons for which the definition of the chunk's run has an action.
  ///   - stored: returns those of the given IDs for which the chunk's dataset has rows.
  public func retry(
    _ chunk: Chunk, selected: Set<Int64>?, excluding refused: Set<Int64> = [],
    reasons: Set<Reason>, stored: StoredIDs
  ) async throws -> Outcome {
    let jobID = try await ledger.collectedJob(of: chunk).id
    let outcome = try await connection.withTransaction { transaction in
      let lines = try await RereadLines(of: chunk, jobID: jobID, on: transaction)
      try await reread(chunk, selected, refused, reasons, into: lines, transaction)
      try await lines.markUnusable()
      try await ledger.lockOlderAnswers(than: jobID, of: chunk, on: transaction)
      let events = try await lines.collect()
      guard events > 0 else { return Outcome(events: 0, superseded: 0) }
      let superseded = try await ledger.chunkReopened(
        chunk, jobID: jobID, events: events, stored: stored, on: transaction)
      return Outcome(events: events, superseded: superseded)
    }
    if outcome.events > 0 { try await ledger.refreshStatistics() }
    return outcome
  }

  /// Adds the lines that are now events. The other lines keep their reason.
  private func reread(
    _ chunk: Chunk, _ selected: Set<Int64>?, _ refused: Set<Int64>, _ reasons: Set<Reason>,
    into reread: RereadLines, _ transaction: Transaction
  ) async throws {
    let scanner = LineScanner(type: chunk.type)
    var after: Int64 = 0
    while true {
      let lines = try await ledger.openLines(of: chunk, after: after, on: transaction)
      guard let last = lines.last else { return }
      after = last.quarantineID
      var rows = RereadLines.Rows()
      for line in lines {
        guard case .event(let event) = line.raw.withUnsafeBytes(scanner.scan) else { continue }
        let isSelected = selected?.contains(line.quarantineID) ?? true
        rows.append(
          line.quarantineID, isSelected: isSelected && !refused.contains(event.id), id: event.id,
          reason: event.reason, createdAt: event.createdAt, redactedAt: event.redactedAt,
          hasAction: reasons.contains(event.reason))
      }
      try await reread.add(rows)
    }
  }
}
