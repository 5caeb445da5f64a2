import ChunkFiles
import Definitions
import ExportStage
import Foundation
import Ledger
import Logging
import PostgreSQL
import SystemPackage
import TestSupport
import Testing
import Vocabulary
import Warehouse

@testable import CollectStage

/// Records jobs and collects their results in the order that a test chooses, without the API. Each job is the only job
/// of its run. It asks about the posts of a key range.
struct AnswerOrderFixture {
  let connection: Connection
  let copying: Connection
  let directory: FilePath
  private let lease = Lease()
  private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  struct Job {
    let run: Run
    let chunk: Chunk
  }

  static func with<R: Sendable>(_ body: (AnswerOrderFixture) async throws -> R) async throws -> R {
    try await withTestDatabase(.ledger, .warehouse) { database in
      try await withTemporaryDirectory { directory in
        try await database.withConnection { connection in
          try await database.withConnection { copying in
            try await body(
              AnswerOrderFixture(connection: connection, copying: copying, directory: directory))
          }
        }
      }
    }
  }

  private var ledger: ChunkLedger { ChunkLedger(connection: connection, lease: lease) }

  /// Exports the posts of a key range and records a completed job about them.
  /// - Parameter name: the name of the pipeline and of its dataset.
  func ask(_ name: String, _ ids: ClosedRange<Int64>, askedAt: Int) async throws -> Job {
    let yaml = """
      name: \(name)
      warehouse: none
      api: {bearer_token: none}
      datasets:
        \(name):
          type: tweets
          table: warehouse.posts
          id: post_id
          where: post_id BETWEEN \(ids.lowerBound) AND \(ids.upperBound)
          actions:
            deleted: delete
            bounced: delete
            suspended: delete
            deactivated: delete
            protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
            geo_scrubbed: {scrub_geo: [latitude, longitude, place_id]}
            tweet_edited: rehydrate
      """
    let definition = try Pipeline.parse(yaml: yaml, file: "test.yaml", environment: [:]).definition
    let run = try await RunLedger(connection: connection)
      .begin(definition, in: directory.string, lease: lease)
    try FileManager.default.createDirectory(
      atPath: run.workDirectory, withIntermediateDirectories: true)
    let stage = ExportStage(
      connection: copying,
      ledger: ExportLedger(connection: connection, run: run, lease: lease),
      catalog: try await Catalog(of: definition, on: connection),
      workDirectory: FilePath(run.workDirectory), logger: logger)
    for dataset in definition.datasets { try await stage.export(dataset) { _ in } }
    let id = try await connection.query(
      "SELECT chunk_id FROM lethe.chunk WHERE run_id = \(run.id)"
    ).onlyRow(as: Int64.self)
    let attempt = try await ledger.jobIntended(for: ledger.chunk(id))
    let created = try await ledger.jobCreated(
      attempt, of: ledger.chunk(id), apiID: "\(id)",
      at: Timestamp(microsecondsSince2000: Int64(askedAt) * 1_000_000))
    try await ledger.fileUploaded(created, of: ledger.chunk(id))
    try await ledger.jobCompleted(created, of: ledger.chunk(id))
    return Job(run: run, chunk: try await ledger.chunk(id))
  }

  func collect(_ job: Job, _ body: String) async throws {
    let chunk = try await ledger.chunk(job.chunk.id)
    guard let attempt = try await ledger.liveAttempt(at: chunk) else { return }
    let path = FilePath(chunk.path + ".result")
    try body.write(toFile: path.string, atomically: false, encoding: .utf8)
    let index = try ChunkIndex(verifying: chunk.file)
    let (connection, ledger) = (connection, ledger)
    let stored = try await stored(of: job)
    _ = try await connection.withTransaction { transaction in
      let (lines, kept) = try await ResultLoad(
        transaction: transaction, ledger: ledger, chunk: chunk, attempt: attempt, stored: stored
      ).run(path: path, bytes: body.utf8.count, index: index)
      return try await ledger.resultCollected(
        attempt, of: chunk,
        .init(bytes: 0, lines: lines, quarantined: kept, sha256: [UInt8](repeating: 0, count: 32)),
        on: transaction)
    }
  }

  func giveUp(_ job: Job) async throws {
    try await RunLedger(connection: connection).runGivenUp(job.run.id, lease: lease)
  }

  /// The IDs of the chunk's collected events that are not superseded.
  func current(_ job: Job) async throws -> Set<Int64> {
    Set(
      try await connection.query(
        "SELECT id FROM lethe.collected WHERE chunk_id = \(job.chunk.id) AND superseded_by IS NULL"
      ).rows(as: Int64.self))
  }

  /// Marks the superseded events of a failed chunk, as a retry does. Returns the number of events that the retry still
  /// has to apply.
  func eventsToRetry(_ job: Job) async throws -> Int {
    let (ledger, chunk) = (ledger, job.chunk)
    let stored = try await stored(of: job)
    let id = try await ledger.collectedJob(of: chunk).id
    return try await connection.withTransaction { transaction in
      try await ledger.markSuperseded(jobID: id, of: chunk, stored: stored, on: transaction)
    }
  }

  private func stored(of job: Job) async throws -> StoredIDs {
    let dataset = try #require(job.run.definition.datasets.first)
    return ExportStage.stored(
      in: dataset, catalog: try await Catalog(of: job.run.definition, on: connection))
  }
}
