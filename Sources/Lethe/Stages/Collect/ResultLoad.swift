import ChunkFiles
import Foundation
import Ledger
import PostgreSQL
import Results
import SystemPackage
import Vocabulary

/// Reads a result file line by line into the ledger. Lines are parsed here and sent by binary COPY, which is
/// several times faster than parsing the JSON in the server.
struct ResultLoad {
  let transaction: Transaction
  let ledger: ChunkLedger
  let chunk: Chunk
  let attempt: Attempt
  let stored: StoredIDs

  /// The largest number of contradicting lines. With more, nothing of the result is trusted.
  private static let contradictionsMax = 100_000

  /// - Returns: the number of lines in the file, and how many of them must not be acted on.
  /// - Throws: `NoResult` if the file is no result of the chunk. `ResultRefused` if the result cannot be
  ///   trusted.
  func run(path: FilePath, index: ChunkIndex) async throws -> (lines: Int, kept: Int) {
    let scanned = try await ScannedLines(on: transaction)
    let tally = try await copy(path, index, into: scanned)
    if let why = tally.reasonForNoResult { throw NoResult(why: why) }
    try await quarantineContradictions(path, in: scanned)
    try await ledger.silenceDecided(
      isSpoken: tally.speaksBySilence, of: attempt,
      idsBelow: { try $0.map { Int64(try index.idsBelow($0)) } }, on: transaction)
    try await ledger.scannedEventsCollected(of: attempt, chunk, on: transaction)
    let kept = try await ledger.keepScannedLines(of: attempt, chunk, on: transaction)
    try await ledger.cleanIDsCollected(
      of: attempt, chunk, containing: { try $0.filter(index.contains) }, on: transaction)
    try await ledger.linesAnswered(
      by: attempt, of: chunk, containing: { try $0.filter(index.contains) }, on: transaction)
    try await ledger.refusalsAnsweredBySilence(
      of: attempt, chunk, containing: { try $0.filter(index.contains) }, on: transaction)
    try await ledger.markSuperseded(
      by: attempt, of: chunk, containing: { try $0.filter(index.contains) }, stored: stored,
      on: transaction)
    return (tally.lines, kept)
  }

  // MARK: Scanning

  private func copy(
    _ path: FilePath, _ index: ChunkIndex, into scanned: ScannedLines
  ) async throws -> ResultTally {
    let scanner = LineScanner(type: chunk.type)
    var lines = try ResultLines(path: path.string)
    var rows = ScannedLines.Rows()
    var tally = ResultTally()
    let copy = try await scanned.beginCopy()
    do {
      var hasMore = true
      while hasMore {
        try Task.checkCancellation()
        hasMore = try lines.forEachLineOfNextBlock { line in
          tally.lines = line.number
          try append(line, scanner, index, to: &rows, &tally)
        }
        if rows.isFull { try await copy.write(rows.take()) }
      }
      try await copy.write(rows.takeLast())
      try await copy.finish()
    } catch {
      await copy.abandon()
      throw error
    }
    return tally
  }

  private func append(
    _ line: ResultLines.Line, _ scanner: LineScanner, _ index: ChunkIndex,
    to rows: inout ScannedLines.Rows, _ tally: inout ResultTally
  ) throws {
    let scanned: ScannedLine =
      line.isTooLong
      ? .refused("over \(ResultLines.lineBytesMax) bytes", id: nil) : scanner.scan(line.bytes)
    let why: String
    let id: Int64?
    switch scanned {
    case .blank: return
    case .event(let event): (why, id) = ("the ID is not in the chunk", event.id)
    case .refused(let fault, let named), .error(let fault, let named): (why, id) = (fault, named)
    }
    let isInChunk = try id.map(index.contains)
    tally.count(scanned, isInChunk: isInChunk)
    if case .event(let event) = scanned, isInChunk == true {
      rows.append(
        line: line.number, eventOf: event.id, reason: event.reason, createdAt: event.createdAt,
        redactedAt: event.redactedAt)
      return
    }
    rows.append(
      line: line.number, raw: line.bytes, id: id, isInChunk: isInChunk, why: Self.printable(why))
  }

  // MARK: Contradictions

  /// Quarantines all lines of an ID with two different reasons, because it is unknown which reason counts.
  /// The same reason twice is one event.
  private func quarantineContradictions(
    _ path: FilePath, in scanned: ScannedLines
  ) async throws {
    let lineNumbers = try await scanned.contradictions(limit: Self.contradictionsMax + 1)
    guard !lineNumbers.isEmpty else { return }
    guard lineNumbers.count <= Self.contradictionsMax else {
      throw ResultRefused(
        message: "over \(Self.contradictionsMax) lines of the result contradict each other")
    }
    var lines = try ResultLines(path: path.string)
    var rows = ScannedLines.Rows()
    try await scanned.contradictionsFound { copy in
      var hasMore = true
      while hasMore {
        hasMore = try lines.forEachLineOfNextBlock { line in
          guard lineNumbers.contains(line.number) else { return }
          rows.append(line: line.number, raw: line.bytes)
        }
        if rows.isFull { try await copy.write(rows.take()) }
      }
      try await copy.write(rows.takeLast())
    }
  }

  /// The text in ASCII without control characters. A text may quote any bytes of a line, and a text column
  /// does not accept all of them. The line itself is kept unchanged.
  private static func printable(_ why: String) -> String {
    why.unicodeScalars.map { $0.isASCII && $0.value >= 0x20 && $0.value != 0x7F ? "\($0)" : "?" }
      .joined()
  }
}

/// The error that a result is complete but cannot be trusted. The job is given up.
struct ResultRefused: Error {
  let message: String
}
