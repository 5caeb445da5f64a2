import ChunkFiles
import Foundation
import Ledger
import PostgreSQL
import Results
import SystemPackage
import Vocabulary

/// Reads a result file line by line into the ledger. Its lines are parsed here and go in by binary
/// COPY, several times faster than having the server parse JSON.
struct ResultLoad {
  let transaction: Transaction
  let ledger: ChunkLedger
  let chunk: Chunk
  let attempt: Attempt
  let stored: StoredIDs

  /// More contradictions than this are no slip: nothing of such a result is believed.
  private static let contradictionsMax = 100_000
  private static let cleanIDsPerStatement = 10_000

  /// - Returns: the number of lines in the file, and of those that nobody may act on.
  /// - Throws: `NoResult` if it is no result of the chunk; `ResultRefused`.
  func run(path: FilePath, index: ChunkIndex) async throws -> (lines: Int, kept: Int) {
    try await transaction.runScript(
      """
      CREATE TEMP TABLE lethe_scanned (
          line bigint NOT NULL, id bigint, reason lethe.reason, created_at timestamptz,
          redacted_at timestamptz, raw bytea, why text, in_chunk boolean
      ) ON COMMIT DROP
      """)
    let tally = try await copy(path, index)
    if let why = tally.reasonForNoResult { throw NoResult(why: why) }
    try await quarantineContradictions(path)
    try await SilenceDecision(transaction: transaction, ledger: ledger, attempt: attempt)
      .take(tally, index)
    let older = OlderHolds(chunk: chunk, jobID: attempt.jobID)
    _ = try await transaction.run(
      """
      INSERT INTO lethe.collected (chunk_id, id, reason, created_at, redacted_at, restores)
      SELECT DISTINCT ON (s.id) \(chunk.id)::bigint, s.id, reason, s.created_at, redacted_at,
             reason = ANY (\(Reason.outweighedByProtected)::lethe.reason[]) AND \(older.hide("s.id"))
               -- Another line about the ID may have said that it is protected.
               AND NOT EXISTS (SELECT FROM lethe.unspoken AS u WHERE u.job_id = \(attempt.jobID)
                 AND u.id = s.id)
      FROM lethe_scanned AS s WHERE why IS NULL ORDER BY s.id, line
      """)
    let kept = try await ledger.keepScannedLines(of: attempt, chunk, on: transaction)
    try await addCleanIDs(older, index)
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

  private func copy(_ path: FilePath, _ index: ChunkIndex) async throws -> ResultTally {
    let scanner = LineScanner(type: chunk.type)
    var lines = try ResultLines(path: path.string)
    var rows = BinaryRows()
    var tally = ResultTally()
    let copy = try await transaction.beginCopyIn(
      """
      COPY lethe_scanned (line, id, reason, created_at, redacted_at, raw, why, in_chunk)
      FROM STDIN (FORMAT binary)
      """)
    do {
      var goesOn = true
      while goesOn {
        try Task.checkCancellation()
        goesOn = try lines.forEachLineOfNextBlock { line in
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
    to rows: inout BinaryRows, _ tally: inout ResultTally
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
      append(event, line: line.number, to: &rows)
      return
    }
    rows.beginRow(columns: 8)
    rows.append(Int64(line.number))
    rows.append(id)
    for _ in 0..<3 { rows.appendNull() }
    rows.append(bytes: line.bytes)
    rows.append(text: Self.printable(why))
    if let isInChunk { rows.append(bool: isInChunk) } else { rows.appendNull() }
  }

  private func append(_ event: Event, line: Int, to rows: inout BinaryRows) {
    rows.beginRow(columns: 8)
    rows.append(Int64(line))
    rows.append(event.id)
    rows.append(text: event.reason.rawValue)
    rows.append(event.createdAt?.microsecondsSince2000)
    rows.append(event.redactedAt?.microsecondsSince2000)
    for _ in 0..<3 { rows.appendNull() }
  }

  // MARK: What only the whole result shows

  /// An ID that comes with two reasons: nobody can tell which one counts, so all its lines go to the
  /// quarantine. The same reason twice is one event.
  private func quarantineContradictions(_ path: FilePath) async throws {
    let lineNumbers: Set<Int> = Set(
      try await transaction.query(
        """
        SELECT line FROM lethe_scanned WHERE why IS NULL AND id IN (
          SELECT id FROM lethe_scanned WHERE why IS NULL
          GROUP BY id HAVING count(DISTINCT reason) > 1)
        LIMIT \(literal: Self.contradictionsMax + 1)
        """
      ).rows(as: Int.self))
    guard !lineNumbers.isEmpty else { return }
    guard lineNumbers.count <= Self.contradictionsMax else {
      throw ResultRefused(
        message: "over \(Self.contradictionsMax) lines of the result contradict each other")
    }
    try await transaction.runScript(
      "CREATE TEMP TABLE lethe_contradicted (line bigint, raw bytea) ON COMMIT DROP")
    var lines = try ResultLines(path: path.string)
    var rows = BinaryRows()
    try await transaction.withCopyIn(
      "COPY lethe_contradicted (line, raw) FROM STDIN (FORMAT binary)"
    ) { copy in
      var goesOn = true
      while goesOn {
        goesOn = try lines.forEachLineOfNextBlock { line in
          guard lineNumbers.contains(line.number) else { return }
          rows.beginRow(columns: 2)
          rows.append(Int64(line.number))
          rows.append(bytes: line.bytes)
        }
        if rows.isFull { try await copy.write(rows.take()) }
      }
      try await copy.write(rows.takeLast())
    }
    try await transaction.execute(
      """
      UPDATE lethe_scanned AS s
      SET why = 'the ID comes with different reasons', raw = c.raw, in_chunk = true
      FROM lethe_contradicted AS c WHERE c.line = s.line
      """)
  }

  /// ASCII without controls: a reason may quote whatever a line holds, and a text column does not take
  /// all of that. The line itself is kept as it is.
  private static func printable(_ why: String) -> String {
    why.unicodeScalars.map { $0.isASCII && $0.value >= 0x20 && $0.value != 0x7F ? "\($0)" : "?" }
      .joined()
  }

  /// IDs that Lethe had protected, that this chunk asked about, and that came back without an event:
  /// clean, where the result speaks about them by silence.
  private func addCleanIDs(_ older: OlderHolds, _ index: ChunkIndex) async throws {
    var after = chunk.firstID - 1
    while true {
      let candidates = try await older.ids(
        after: after, limit: Self.cleanIDsPerStatement, on: transaction)
      guard let last = candidates.last else { return }
      after = last
      try await transaction.execute(
        """
        INSERT INTO lethe.collected (chunk_id, id, reason, restores)
        SELECT \(chunk.id), c.id, 'clean', true
               FROM pg_catalog.unnest(\(try candidates.filter(index.contains))::bigint[]) AS c (id)
        WHERE EXISTS (SELECT FROM lethe.speaks_by_silence(\(attempt.jobID), c.id))
        ON CONFLICT (chunk_id, id) DO NOTHING
        """)
    }
  }
}

/// A result that is whole and yet not to be believed. The job is written off.
struct ResultRefused: Error {
  let message: String
}
