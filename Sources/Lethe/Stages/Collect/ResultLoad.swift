import ChunkFiles
import Foundation
import Ledger
import PostgreSQL
import Results
import SystemPackage
import Vocabulary
import WorkFiles

/// Reads a result file line by line into the ledger. Lines are parsed and sorted here, and each event is written once,
/// by binary COPY and in the order of the primary key.
struct ResultLoad {
  let transaction: Transaction
  let ledger: ChunkLedger
  let chunk: Chunk
  let attempt: Attempt
  let stored: StoredIDs

  /// The largest number of lines that contradict another line of the same ID. If there are more, the result is not
  /// trusted.
  private static let contradictionsMax = 100_000

  /// - Parameter bytes: the size of the file.
  /// - Returns: the number of lines in the file, and how many of them are quarantined.
  /// - Throws: `NoResult` if the file is not a result of the chunk. `ResultRefused` if the result cannot be
  ///   trusted.
  func run(
    path: FilePath, bytes: Int, index: ChunkIndex
  ) async throws -> (lines: Int, kept: Int) {
    let refused = try await RefusedLines(on: transaction)
    var sorter = EventSorter(path: FilePath("\(path).events"))
    let (tally, contradictory) = try await scan(
      path, bytes, index, into: &sorter, refused)
    try await ledger.silenceDecided(
      isSpoken: tally.silenceCounts, of: attempt,
      idsBelow: { try $0.map { Int64(try index.idsBelow($0)) } }, on: transaction)
    try await store(sorter.sorted(), except: contradictory)
    try await ledger.lockOlderAnswers(than: attempt.jobID, of: chunk, on: transaction)
    let kept = try await ledger.keepRefusedLines(of: attempt, chunk, on: transaction)
    try await ledger.olderHoldsAnswered(
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

  /// - Returns: the counts, and the IDs with different reasons, by the numbers of their lines. These lines are refused,
  ///   because it is unknown which reason is right.
  private func scan(
    _ path: FilePath, _ bytes: Int, _ index: ChunkIndex, into sorter: inout EventSorter,
    _ refused: RefusedLines
  ) async throws -> (ResultTally, contradictory: [Int: Int64]) {
    let scanner = LineScanner(type: chunk.type)
    var lines = try WorkFileError.explaining(.read, path) {
      try ResultLines(path: path.string)
    }
    var rows = RefusedLines.Rows()
    var tally = ResultTally()
    let copy = try await refused.beginCopy()
    do {
      var hasMore = true
      while hasMore {
        try Task.checkCancellation()
        hasMore = try lines.forEachLineOfNextBlock { line in
          tally.lines = line.number
          try append(line, scanner, index, to: &sorter, &rows, &tally)
        }
        if rows.isFull { try await copy.write(rows.take()) }
      }
      // An ID that is missing from a result counts as clean. Somebody may have changed the file since the download.
      guard lines.bytes == bytes else { throw WorkFileError(.read, path, nil) }
      if let why = tally.reasonForNoResult { throw NoResult(why: why) }
      // Before the COPY ends: the server would end a session that is idle in a transaction for too long.
      let contradictory = try contradictions(among: sorter.sorted())
      if !contradictory.isEmpty {
        try await refuse(contradictory, of: path, adding: &rows, to: copy)
      }
      try await copy.write(rows.takeLast())
      try await copy.finish()
      return (tally, contradictory)
    } catch {
      await copy.abandon()
      throw error
    }
  }

  private func append(
    _ line: ResultLines.Line, _ scanner: LineScanner, _ index: ChunkIndex,
    to sorter: inout EventSorter, _ rows: inout RefusedLines.Rows, _ tally: inout ResultTally
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
      guard line.number <= EventSorter.lineMax else {
        throw ResultRefused(message: "the result has more than \(EventSorter.lineMax) lines")
      }
      try sorter.append(EventSorter.Event(event, line: line.number))
      return
    }
    rows.append(
      line: line.number, raw: line.bytes, id: id, isInChunk: isInChunk, why: Self.printable(why))
  }

  // MARK: Events

  /// The IDs with different reasons, by the numbers of their lines. It is unknown which reason is right.
  private func contradictions(among events: EventSorter.Merge) throws -> [Int: Int64] {
    var events = events
    var lines: [Int: Int64] = [:]
    var first: EventSorter.Event?
    var linesOfID: [Int] = []
    var isContradictory = false
    while true {
      let event = try events.next()
      if let event, let first, event.id == first.id {
        if event.reason != first.reason { isContradictory = true }
        if linesOfID.count <= Self.contradictionsMax { linesOfID.append(event.line) }
        continue
      }
      if isContradictory, let first {
        for line in linesOfID + [first.line] { lines[line] = first.id }
        guard lines.count <= Self.contradictionsMax else {
          throw ResultRefused(
            message: "over \(Self.contradictionsMax) lines of the result contradict each other")
        }
      }
      guard let event else { return lines }
      first = event
      linesOfID.removeAll(keepingCapacity: true)
      isContradictory = false
    }
  }

  /// Quarantines contradictory lines.
  private func refuse(
    _ contradictory: [Int: Int64], of path: FilePath, adding rows: inout RefusedLines.Rows,
    to copy: CopyIn
  ) async throws {
    var lines = try WorkFileError.explaining(.read, path) {
      try ResultLines(path: path.string)
    }
    var hasMore = true
    while hasMore {
      hasMore = try lines.forEachLineOfNextBlock { line in
        guard let id = contradictory[line.number] else { return }
        rows.append(
          line: line.number, raw: line.bytes, id: id, isInChunk: true,
          why: "the ID comes with different reasons")
      }
      if rows.isFull { try await copy.write(rows.take()) }
    }
  }

  /// Stores the first event of each ID. Two lines with the same ID and reason are one event.
  private func store(
    _ events: EventSorter.Merge, except contradictory: [Int: Int64]
  ) async throws {
    var events = events
    var rows = ChunkLedger.EventRows(of: chunk)
    try await ledger.copyEvents(on: transaction) { copy in
      var last: Int64?
      while let event = try events.next() {
        if event.id == last || contradictory[event.line] != nil { continue }
        last = event.id
        rows.append(
          id: event.id, reason: event.reason, createdAt: event.createdAt,
          redactedAt: event.redactedAt)
        if rows.isFull { try await copy.write(rows.take()) }
      }
      try await copy.write(rows.takeLast())
    }
  }

  /// The text in ASCII without control characters. It may quote any bytes of a line, and a column of type
  /// text does not accept all of them. In the line itself, nothing is replaced.
  private static func printable(_ why: String) -> String {
    why.unicodeScalars.map { $0.isASCII && $0.value >= 0x20 && $0.value != 0x7F ? "\($0)" : "?" }
      .joined()
  }
}

/// The error that a result is complete but cannot be trusted. The attempt fails.
struct ResultRefused: Error {
  let message: String
}
