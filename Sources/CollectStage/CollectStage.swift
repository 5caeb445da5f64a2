import ChunkFiles
public import ComplianceAPI
import Foundation
public import Ledger
public import Logging
public import PostgreSQL
import Results
import SystemPackage
import Vocabulary

/// Complete job → events: downloads a result, proves it whole, and puts its events into the ledger,
/// what cannot be acted on into the quarantine; all of it in one transaction.
public struct CollectStage: Sendable {
  private let connection: Connection
  private let ledger: ChunkLedger
  private let client: ComplianceClient
  private let jobAttemptsMax: Int
  private let logger: Logger

  public enum Outcome: Sendable, Equatable {
    case collected(events: Int, quarantined: Int)
    /// The result cannot be had any more; the chunk has another attempt.
    case died
    /// The chunk is given up; the ledger has the reason.
    case failed
  }

  public init(
    connection: Connection, ledger: ChunkLedger, client: ComplianceClient, jobAttemptsMax: Int,
    logger: Logger
  ) {
    self.connection = connection
    self.ledger = ledger
    self.client = client
    self.jobAttemptsMax = jobAttemptsMax
    self.logger = logger
  }

  /// Takes a chunk from `complete` to `collected`.
  public func collect(_ chunk: Chunk) async throws -> Outcome {
    guard let attempt = try await ledger.liveAttempt(at: chunk), let apiID = attempt.apiID else {
      throw LedgerError(
        code: .missing, message: "\(chunk.label) is complete but has no job",
        remedy: "somebody has changed the ledger by hand: restore it")
    }
    let index: ChunkIndex
    do {
      // Without the chunk's IDs nobody could tell whether an event is about one of them.
      index = try ChunkIndex(verifying: chunk.file)
    } catch let error as ChunkFileError {
      return try await died(attempt, of: chunk, why: error.description)
    }
    let resultPath = FilePath(chunk.path + ".result")
    defer { unlink(resultPath.string) }
    let download: ComplianceClient.Download
    do {
      download = try await self.download(apiID, to: resultPath)
    } catch let error as APIError
      where [.notFound, .urlRefused, .incompleteResult].contains(error.kind)
    {
      return try await died(attempt, of: chunk, why: error.message)
    }
    let (events, quarantined): (Int, Int)
    do {
      (events, quarantined) = try await load(
        resultPath, of: chunk, attempt, index, bytes: download.bytes, sha256: download.sha256)
    } catch let error as ResultRefused {
      return try await died(attempt, of: chunk, why: error.message)
    }
    // Its statistics are what apply's plans rest on.
    try await connection.execute("ANALYZE lethe.collected")
    logger.info(
      "\(chunk.label): \(events) events collected, \(quarantined) lines quarantined",
      metadata: ["stage": "collect", "chunk": "\(chunk.id)", "job": "\(apiID)"])
    return .collected(events: events, quarantined: quarantined)
  }

  /// Puts a result that is proven whole into the ledger.
  /// - Returns: how many events and quarantined lines it has.
  func load(
    _ path: FilePath, of chunk: Chunk, _ attempt: Attempt, _ index: ChunkIndex, bytes: Int,
    sha256: [UInt8]
  ) async throws -> (events: Int, quarantined: Int) {
    try await connection.withTransaction { transaction in
      let load = ResultLoad(
        transaction: transaction, ledger: ledger, chunk: chunk, attempt: attempt)
      let lines = try await load.run(path: path, index: index)
      return try await ledger.resultCollected(
        attempt, of: chunk, .init(bytes: bytes, lines: lines, sha256: sha256), on: transaction)
    }
  }

  /// The signed URL is asked for anew: it is never stored.
  private func download(_ apiID: String, to path: FilePath) async throws
    -> ComplianceClient.Download
  {
    let job = try await client.job(id: apiID)
    guard job.status == .complete, let url = job.downloadURL else {
      throw APIError(
        kind: .notFound, operation: "download of job \(apiID)",
        message: "job \(apiID) is \(job.status) now and has no result to download")
    }
    for tries in 1... {
      let download = try await client.download(from: url, to: path, job: apiID)
      if try ResultLines.endsWhole(path: path.string) { return download }
      guard tries < 3 else { break }
      logger.warning("job \(apiID): the result ends in the middle of a line; downloading it again")
    }
    throw APIError(
      kind: .incompleteResult, operation: "download of job \(apiID)",
      message: "the result ends in the middle of a line")
  }

  private func died(_ attempt: Attempt, of chunk: Chunk, why: String) async throws -> Outcome {
    let hasAnother = try await ledger.jobDied(
      attempt, of: chunk, why: why, attemptsMax: jobAttemptsMax)
    logger.warning(
      "\(chunk.label): attempt \(attempt.number) of \(jobAttemptsMax) came to nothing: \(why)",
      metadata: ["stage": "collect", "chunk": "\(chunk.id)"])
    return hasAnother ? .died : .failed
  }
}
