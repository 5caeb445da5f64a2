internal import Foundation
internal import PostgreSQL
internal import SystemPackage
internal import _NIOFileSystem

/// Writes the result of one submission: merges its sorted IDs with the platform's events in the same order. At most
/// `idsInMemoryMax` IDs and a few blocks of events are in memory at a time.
struct Processing: Sendable {
  let database: Database
  let spool: Spool
  let lookUpsMax: Int
  let idsInMemoryMax: Int
  let vocabulary: ResultVocabulary

  private static let writeBytes = 512 * 1024

  /// Writes the job's result to the spool.
  ///
  /// - Parameter progressed: called with the progress, from 0 to 1.
  /// - Returns: the result's length in bytes.
  /// - Throws: `CancellationError`, `SubmissionMissing`, `SubmissionMalformed`, `PlatformEventRows.UnexpectedRow`, and
  ///   errors of PostgreSQL and the file system.
  func writeResult(
    of job: Job, as name: String, progressed: @Sendable (Double) -> Void
  ) async throws -> Int64 {
    try Task.checkCancellation()
    guard let submission = job.submissionFile,
      let bytes = try await FileSystem.shared.info(forFileAt: spool.path(submission))?.size
    else { throw SubmissionMissing() }
    return try await spool.writeResult(name) { result in
      var read: Int64 = 0
      let ids = try await self.ids(of: job, spool.path(submission), runsNamed: name, &result) {
        read += Int64($0)
        progressed(Double(read) / Double(2 * max(bytes, 1)))
      }
      defer { for run in ids.runs { unlink(run.string) } }
      try await writeLines(for: ids, of: job, &result) { progressed(0.5 + $0 / 2) }
    }
  }

  /// Reads the submission. The result lines for invalid lines come before all other result lines.
  private func ids(
    of job: Job, _ path: FilePath, runsNamed name: String,
    _ result: inout BufferedWriter<WriteFileHandle>, read: (Int) -> Void
  ) async throws -> SubmittedIDs {
    var lines: [UInt8] = []
    var writer = result
    defer { result = writer }
    let ids = try await SubmittedIDs(
      of: path, runIDsMax: idsInMemoryMax, runPath: { spool.path("\(name).\($0).part") },
      invalid: { line, number in
        guard job.profile == .native else { throw SubmissionMalformed(line: number) }
        ResultLines.append(invalid: line, to: &lines)
      },
      read: { bytes in
        read(bytes)
        try Task.checkCancellation()
        guard lines.count >= Self.writeBytes else { return }
        try await writer.write(contentsOf: lines)
        lines.removeAll(keepingCapacity: true)
      })
    try await writer.write(contentsOf: lines)
    return ids
  }

  private func writeLines(
    for ids: SubmittedIDs, of job: Job, _ result: inout BufferedWriter<WriteFileHandle>,
    progressed: (Double) -> Void
  ) async throws {
    guard let range = ids.range else { return }
    let selection = ids.all(upTo: lookUpsMax).map(PlatformEvents.IDSelection.ids) ?? .range(range)
    let sql = PlatformEvents(
      type: job.type, knowsEdits: vocabulary.knowsEdits(job.profile)
    ).copySQL(selection)
    var merge = Merge(
      stream: try ids.stream(),
      lines: ResultLines(type: job.type, profile: job.profile, vocabulary: vocabulary))
    try await database.withConnection(as: "compliance-server: processing") { connection in
      try await connection.execute("SET work_mem = '64MB'")
      try await connection.withCopyOut(sql) { blocks in
        for try await block in blocks {
          try merge.take(block)
          if let last = merge.last, last >= range.lowerBound {
            progressed(
              // As integers, the differences could overflow.
              (Double(last) - Double(range.lowerBound))
                / (Double(range.upperBound) - Double(range.lowerBound) + 1))
          }
          try await result.write(contentsOf: merge.takeBytes())
          if merge.isComplete { break }
        }
      }
    }
    try merge.finish()
    try await result.write(contentsOf: merge.takeBytes())
  }
}

/// Merges events, sorted by ID, with the submitted IDs in the same order.
private struct Merge {
  private var stream: IDStream
  private var lines: ResultLines
  private var rows = PlatformEventRows()
  private var bytes: [UInt8] = []
  /// The event that takes precedence among the events of the current ID that were read so far. More events of this ID
  /// might follow.
  private var pending: PlatformEvent?
  /// Whether all submitted IDs are processed.
  private(set) var isComplete = false

  init(stream: IDStream, lines: ResultLines) {
    self.stream = stream
    self.lines = lines
  }

  var last: Int64? { pending?.id }

  mutating func take(_ block: [UInt8]) throws {
    var rows = rows
    try rows.read(block) { event in
      if let pending, pending.id == event.id {
        if event.verdict.rawValue < pending.verdict.rawValue { self.pending = event }
      } else {
        try writePending()
        pending = event
      }
    }
    self.rows = rows
  }

  /// Writes the remaining lines. Call this after the last event.
  mutating func finish() throws {
    try writePending()
    lines.finish(to: &bytes)
  }

  /// Writes the result line of the pending event, if its ID was submitted. Call this after all events of that ID.
  private mutating func writePending() throws {
    guard let event = pending, !isComplete else { return }
    pending = nil
    switch try stream.skip(to: event.id) {
    case true?: lines.append(event, to: &bytes)
    case false?: break
    case nil: isComplete = true
    }
  }

  mutating func takeBytes() -> [UInt8] {
    defer { bytes.removeAll(keepingCapacity: true) }
    return bytes
  }
}

/// A job is in progress, but its upload is not in the spool directory.
struct SubmissionMissing: Error {}

/// A line of the submission is not an ID, and the job's profile has no result line for this case.
struct SubmissionMalformed: Error {
  let line: Int
}
