import ChunkFiles
public import ComplianceAPI
internal import Failures
import Foundation
public import Ledger
public import Logging
public import PostgreSQL
import Results
import SystemPackage
import Vocabulary

/// Complete job → events: downloads a result, proves that it is complete, and writes its events to the ledger
/// and the lines that cannot be acted on to the quarantine, in one transaction.
public struct CollectStage: Sendable {
  private let connection: Connection
  private let ledger: ChunkLedger
  private let client: ComplianceClient
  private let stored: StoredIDs
  private let jobAttemptsMax: Int
  private let logger: Logger

  /// How often a job's result is downloaded before a new job is created.
  private static let downloadsMax = 3
  /// The largest size of a result for each ID of the chunk. It is far more than a line needs, and prevents a
  /// compressed result from filling the disk.
  private static let bytesOfIDMax = 1024
  private static let bytesBesideMax = 1 << 20

  public enum Outcome: Sendable, Equatable {
    case collected(events: Int, quarantined: Int)
    /// The result is no longer available; the chunk has another attempt.
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
    } catch let error as ChunkFileError {
      return try await failed(attempt, of: chunk, why: error.description)
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
      metadata: ["stage": "collect", "chunk": "\(chunk.id)", "job": "\(apiID)"])
    return .collected(events: events, quarantined: quarantined)
  }

  /// Downloads the result and loads it into the ledger. Downloads it again, up to a limit, if the download is
  /// not a result.
  /// - Returns: how many events and quarantined lines it has.
  /// - Throws: `APIError` `.incompleteResult` or `.noResult` if all tries failed.
  private func result(
    of apiID: String, _ chunk: Chunk, _ attempt: Attempt, _ index: ChunkIndex
  ) async throws -> (events: Int, quarantined: Int) {
    let path = FilePath("\(chunk.path).\(ledger.lease.fileTag).result")
    defer { unlink(path.string) }
    var url = try await downloadURL(of: apiID)
    for tries in 1... {
      do {
        return try await download(from: url, to: path, apiID, chunk, attempt, index)
      } catch let error as APIError where error.kind == .urlRefused && tries < Self.downloadsMax {
        logger.warning("job \(apiID): \(error.message); requesting another URL")
        url = try await downloadURL(of: apiID)
      } catch let error as APIError
        where [.incompleteResult, .noResult].contains(error.kind) && tries < Self.downloadsMax
      {
        logger.warning("job \(apiID): \(error.message); downloading it again")
        try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: tries)))
      }
    }
    preconditionFailure("the loop above only ends by returning or throwing")
  }

  private func download(
    from url: SignedURL, to path: FilePath, _ apiID: String, _ chunk: Chunk, _ attempt: Attempt,
    _ index: ChunkIndex
  ) async throws -> (events: Int, quarantined: Int) {
    let download = try await client.download(
      from: url, to: path, bytesMax: chunk.ids * Self.bytesOfIDMax + Self.bytesBesideMax,
      job: apiID)
    func failure(_ kind: APIError.Kind, _ why: String) -> APIError {
      APIError(
        kind: kind, operation: "download of job \(apiID)", message: "\(why): \(download.summary)")
    }
    guard try ResultLines.endsWhole(path: path.string) else {
      throw failure(.incompleteResult, "the result ends in the middle of a line")
    }
    do {
      return try await load(
        path, of: chunk, attempt, index, bytes: download.bytes, sha256: download.sha256)
    } catch let error as NoResult {
      throw failure(.noResult, "the download is not a result, \(error.why)")
    }
  }

  /// Loads a result that is proven complete into the ledger.
  /// - Returns: how many events and quarantined lines it has.
  /// - Throws: `NoResult` or `ResultRefused` if it cannot be trusted. Then nothing of it is kept.
  func load(
    _ path: FilePath, of chunk: Chunk, _ attempt: Attempt, _ index: ChunkIndex, bytes: Int,
    sha256: [UInt8]
  ) async throws -> (events: Int, quarantined: Int) {
    try await connection.withTransaction { transaction in
      let load = ResultLoad(
        transaction: transaction, ledger: ledger, chunk: chunk, attempt: attempt, stored: stored)
      let (lines, kept) = try await load.run(path: path, index: index)
      return try await ledger.resultCollected(
        attempt, of: chunk, .init(bytes: bytes, lines: lines, kept: kept, sha256: sha256),
        on: transaction)
    }
  }

  /// Requests a new signed URL each time, because it is never stored.
  private func downloadURL(of apiID: String) async throws -> SignedURL {
    let job = try await client.job(id: apiID)
    guard job.status == .complete, let url = job.downloadURL else {
      throw APIError(
        kind: .notFound, operation: "download of job \(apiID)",
        message: "job \(apiID) is now \(job.status) and has no result to download")
    }
    return url
  }

  private func failed(_ attempt: Attempt, of chunk: Chunk, why: String) async throws -> Outcome {
    let hasAnother = try await ledger.jobFailed(
      attempt, of: chunk, why: why, attemptsMax: jobAttemptsMax)
    logger.warning(
      "\(chunk.label): attempt \(attempt.number) failed: \(why)",
      metadata: ["stage": "collect", "chunk": "\(chunk.id)"])
    return hasAnother ? .attemptFailed : .failed
  }
}
