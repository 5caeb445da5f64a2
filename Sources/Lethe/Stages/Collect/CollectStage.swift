import ChunkFiles
public import ComplianceAPI
import CrashPoints
internal import Failures
import Foundation
public import Ledger
public import Logging
public import PostgreSQL
import Results
import SystemPackage
import Vocabulary
import WorkFiles

/// Complete job → events: downloads a result and verifies that it is complete. Then one transaction writes its
/// events to the ledger, and the lines that Lethe does not act on to the quarantine.
public struct CollectStage: Sendable {
  private let connection: Connection
  private let ledger: ChunkLedger
  private let client: ComplianceClient
  private let stored: StoredIDs
  private let jobAttemptsMax: Int
  private let logger: Logger

  /// The maximum number of downloads of a job's result before a new job is created.
  private static let downloadsMax = 3
  /// The largest size of a result, per ID of the chunk. A line needs far fewer bytes. The limit prevents a compressed
  /// result from filling the disk.
  private static let bytesPerIDMax = 1024
  /// The bytes that a result may have in addition to `bytesPerIDMax` for each ID.
  private static let extraBytesMax = 1 << 20

  public enum Outcome: Sendable, Equatable {
    case collected(events: Int, quarantined: Int)
    /// The attempt failed, for example because the job's result is no longer available. The chunk has another attempt.
    case attemptFailed
    /// The chunk failed. The ledger has the reason.
    case failed
  }

  /// - Parameter stored: returns those of the given IDs for which the chunks' dataset has rows.
  public init(
    connection: Connection, ledger: ChunkLedger, client: ComplianceClient,
    stored: @escaping StoredIDs, jobAttemptsMax: Int, logger: Logger
  ) {
    self.connection = connection
    self.ledger = ledger
    self.client = client
    self.stored = stored
    self.jobAttemptsMax = jobAttemptsMax
    self.logger = logger
  }

  /// Takes a chunk from `complete` to `collected`.
  public func collect(_ chunk: Chunk) async throws -> Outcome {
    guard let attempt = try await ledger.liveAttempt(at: chunk), let apiID = attempt.apiID else {
      throw LedgerError(
        code: .missing, message: "\(chunk.label) is complete but has no job",
        remedy: "restore the ledger from a backup: it was changed by hand")
    }
    let index: ChunkIndex
    do {
      // Without the chunk's IDs, it is unknown whether an event is about one of them.
      index = try ChunkIndex(verifying: chunk.file)
    } catch let error as ChunkFileError where error.code == .lost {
      // If the file was lost with its host, the chunk is not to blame.
      let isOfLostHost =
        chunk.fileHost.map { $0 != ledger.lease.host } ?? false
        && !FileManager.default.fileExists(atPath: chunk.path)
      return try await failed(
        attempt, of: chunk, why: error.summary, isCounted: !isOfLostHost)
    }
    let (events, quarantined): (Int, Int)
    do {
      (events, quarantined) = try await result(of: apiID, chunk, attempt, index)
    } catch let error as APIError
      where [.notFound, .jobRefused, .urlRefused, .incompleteResult, .noResult].contains(error.kind)
    {
      return try await failed(attempt, of: chunk, why: error.message)
    } catch let error as ResultRefused {
      return try await failed(attempt, of: chunk, why: error.message)
    }
    try await ledger.refreshStatistics()
    logger.info(
      "\(chunk.label): \(events) events collected, \(quarantined) lines quarantined",
      metadata: chunk.metadata("collect", job: apiID))
    return .collected(events: events, quarantined: quarantined)
  }

  /// Downloads the result and loads it into the ledger. If the download is not a complete result, downloads it
  /// again, up to a limit.
  /// - Returns: how many events and quarantined lines it has.
  /// - Throws: `APIError` `.urlRefused`, `.incompleteResult` or `.noResult` if all tries failed; `.notFound` or
  ///   `.jobRefused` if the API does not report a complete job; `ResultRefused`.
  private func result(
    of apiID: String, _ chunk: Chunk, _ attempt: Attempt, _ index: ChunkIndex
  ) async throws -> (events: Int, quarantined: Int) {
    let path = FilePath("\(chunk.path).\(ledger.lease.fileTag).result")
    defer { CrashStep.resultFileRemoved.around { _ = unlink(path.string) } }
    var url = try await downloadURL(of: apiID)
    for tries in 1... {
      do {
        return try await download(from: url, to: path, apiID, chunk, attempt, index)
      } catch let error as APIError where error.kind == .urlRefused && tries < Self.downloadsMax {
        logger.notice(
          "\(chunk.label): job \(apiID): \(error.message); requesting another URL",
          metadata: chunk.metadata("collect", job: apiID))
        url = try await downloadURL(of: apiID)
      } catch let error as APIError
        where [.incompleteResult, .noResult].contains(error.kind) && tries < Self.downloadsMax
      {
        logger.notice(
          "\(chunk.label): job \(apiID): \(error.message); downloading it again",
          metadata: chunk.metadata("collect", job: apiID))
        try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: tries)))
      }
    }
    preconditionFailure("the loop above only ends by returning or throwing")
  }

  /// The paths to which earlier processes may have begun to download a result of the chunk.
  private static func formerPaths(of chunk: Chunk, except path: FilePath) -> [FilePath] {
    let own = FilePath(chunk.path)
    guard let name = own.lastComponent?.string else { return [] }
    let folder = own.removingLastComponent()
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.string)) ?? []
    return names.filter { $0.hasPrefix(name + ".") }
      .compactMap { ComplianceClient.pathOfInterruptedDownload(note: $0) }
      .map { folder.appending($0) }.filter { $0 != path }
  }

  private func download(
    from url: SignedURL, to path: FilePath, _ apiID: String, _ chunk: Chunk, _ attempt: Attempt,
    _ index: ChunkIndex
  ) async throws -> (events: Int, quarantined: Int) {
    let download = try await client.download(
      from: url, to: path, bytesMax: chunk.ids * Self.bytesPerIDMax + Self.extraBytesMax,
      job: apiID, former: Self.formerPaths(of: chunk, except: path))
    func failure(_ kind: APIError.Kind, _ why: String) -> APIError {
      APIError(
        kind: kind, operation: "download of job \(apiID)", message: "\(why): \(download.summary)")
    }
    guard
      try WorkFileError.explaining(
        .read, path, { try ResultLines.endsWithCompleteLine(path: path.string) })
    else {
      throw failure(.incompleteResult, "the result ends in the middle of a line")
    }
    do {
      return try await load(
        path, of: chunk, attempt, index, bytes: download.bytes, sha256: download.sha256)
    } catch let error as NoResult {
      throw failure(.noResult, "the download is not a result of the chunk: \(error.why)")
    }
  }

  /// Loads a result into the ledger. The caller has verified that the result is complete.
  /// - Returns: how many events and quarantined lines it has.
  /// - Throws: `NoResult` or `ResultRefused` if it cannot be trusted. Then nothing of it is kept.
  func load(
    _ path: FilePath, of chunk: Chunk, _ attempt: Attempt, _ index: ChunkIndex, bytes: Int,
    sha256: [UInt8]
  ) async throws -> (events: Int, quarantined: Int) {
    try await connection.withTransaction(recording: .resultCollected) { transaction in
      let load = ResultLoad(
        transaction: transaction, ledger: ledger, chunk: chunk, attempt: attempt, stored: stored)
      let (lines, kept) = try await load.run(path: path, bytes: bytes, index: index)
      return try await ledger.resultCollected(
        attempt, of: chunk, .init(bytes: bytes, lines: lines, quarantined: kept, sha256: sha256),
        on: transaction)
    }
  }

  /// Requests the job's status again, because the signed URL in it is never stored.
  private func downloadURL(of apiID: String) async throws -> SignedURL {
    let job = try await CrashStep.getCallByCollect.around { try await client.job(id: apiID) }
    guard job.status == .complete, let url = job.downloadURL else {
      throw APIError(
        kind: .notFound, operation: "download of job \(apiID)",
        message: "job \(apiID) is now \(job.status) and has no result to download")
    }
    return url
  }

  private func failed(
    _ attempt: Attempt, of chunk: Chunk, why: String, isCounted: Bool = true
  ) async throws -> Outcome {
    let hasAnother = try await ledger.attemptFailed(
      attempt, of: chunk, why: why, attemptsMax: jobAttemptsMax, isCounted: isCounted,
      stage: "collect", logger: logger)
    return hasAnother ? .attemptFailed : .failed
  }
}
