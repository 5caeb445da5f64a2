import ApplyStage
import ChunkFiles
import Definitions
import ExportStage
import Foundation
import Ledger
import Logging
import PostgreSQL
import SystemPackage
import TestSupport
import Vocabulary
import Warehouse

@testable import CollectStage

/// Does to a real warehouse, by Lethe's own stages, what `WarehouseModel` does in memory. The API is
/// left out: a job's row is moved on by hand, and its answer written into a file.
struct ModelDriver {
  let connection: Connection
  let copying: Connection
  let directory: FilePath
  let definition: Definition
  let catalog: Catalog
  private let lease = Lease()
  private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  /// In the order of the model's.
  private var chunkIDs: [Int64] = []

  static func definition(name: String, where ids: String, batch: String, chunk: Int) -> String {
    """
    name: \(name)
    warehouse: none
    api: {bearer_token: none}
    limits: {max_redacted_percent: 100, max_redacted_rows: 100000, allow_whole_chunks: true}
    datasets:
      posts:
        type: tweets
        table: warehouse.posts
        id: post_id
        where: post_id \(ids)
        chunk: {ids: \(chunk)}
        \(batch)
        actions:
          deleted: delete
          bounced: {redact: {text: ''}}
          suspended: delete
          deactivated: ignore
          protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
          geo_scrubbed: {scrub_geo: {latitude: null, place_id: gone, raw: [geo]}}
          tweet_edited: {rehydrate: {set: {stale: true}}}
        targets:
          - table: warehouse.post_media
            match: post_id
            actions: {deleted: delete, suspended: delete, bounced: delete}
          - table: warehouse.reposts
            match: reposted_post_id
            id: repost_id
            type: tweets
            actions: {deleted: delete, suspended: {redact: {text: ''}}}
      users:
        type: users
        table: warehouse.users
        id: user_id
        where: user_id \(ids)
        chunk: {ids: \(chunk)}
        \(batch)
        actions:
          deleted: delete
          suspended: {redact: [display_name]}
          deactivated: ignore
          protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
        targets:
          - table: warehouse.posts
            match: author_id
            id: post_id
            type: tweets
            actions:
              deleted: delete
              suspended: {redact: {text: ''}}
              protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
            targets:
              - {table: warehouse.post_media, match: post_id, actions: {deleted: delete}}
    """
  }

  /// - Parameter copying: for exports, whose records go over the other connection meanwhile.
  init(
    _ yaml: String, on connection: Connection, copying: Connection, directory: FilePath
  ) async throws {
    self.connection = connection
    self.copying = copying
    self.directory = directory
    definition = try Pipeline.parse(yaml: yaml, file: "model.yaml", environment: [:]).definition
    catalog = try await Catalog(of: definition, on: connection)
  }

  // MARK: A night's begin

  struct Exported {
    let type: String
    let ids: Set<Int64>
    let range: ClosedRange<Int64>
  }

  /// Exports both datasets into chunks of a new run.
  /// - Returns: the chunks, in the order of the model's.
  mutating func export() async throws -> [Exported] {
    try await waitForOthers()
    let run = try await RunLedger(connection: connection)
      .begin(definition, in: directory.string, lease: lease)
    try FileManager.default.createDirectory(
      atPath: run.workDirectory, withIntermediateDirectories: true)
    var exported: [Exported] = []
    for dataset in definition.datasets {
      let stage = ExportStage(
        connection: copying,
        ledger: ExportLedger(connection: connection, run: run, lease: lease), catalog: catalog,
        workDirectory: FilePath(run.workDirectory), logger: logger)
      try await stage.export(dataset) { _ in }
    }
    for chunk in try await ledger.chunks(of: run.id, in: [.exported]) {
      chunkIDs.append(chunk.id)
      let text = try String(contentsOfFile: chunk.path, encoding: .utf8)
      exported.append(
        Exported(
          type: chunk.type.rawValue, ids: Set(text.split(separator: "\n").compactMap { Int64($0) }),
          range: chunk.firstID...chunk.lastID))
    }
    return exported
  }

  /// Other tests write to other databases of the same server, and what of theirs is under way counts as
  /// under way at the export, too.
  private func waitForOthers() async throws {
    let mine = try await connection.query("SELECT pg_current_xact_id()::text")
      .onlyRow(as: String.self)
    while try await connection.query(
      "SELECT pg_snapshot_xmin(pg_current_snapshot()) <= $1::xid8", .text(mine)
    ).onlyRow(as: Bool.self) { await Task.yield() }
  }

  private var ledger: ChunkLedger { ChunkLedger(connection: connection, lease: lease) }

  /// Moves a chunk's job on until it is complete.
  func ask(_ index: Int, askedAt: Int) async throws {
    let id = chunkIDs[index]
    let attempt = try await ledger.jobIntended(for: ledger.chunk(id))
    let made = try await ledger.jobCreated(
      attempt, of: ledger.chunk(id), apiID: "\(id)",
      at: Timestamp(microsecondsSince2000: Int64(askedAt) * 1_000_000))
    try await ledger.uploadRecorded(made, of: ledger.chunk(id))
    try await ledger.jobCompleted(made, of: ledger.chunk(id))
  }

  // MARK: Collect and apply

  func collect(_ index: Int, _ answer: [Int64: WarehouseModel.Answer]) async throws {
    let chunk = try await ledger.chunk(chunkIDs[index])
    guard let attempt = try await ledger.liveAttempt(at: chunk) else { return }
    let path = FilePath(chunk.path + ".result")
    try answer.sorted { $0.key < $1.key }.map(Self.line).joined()
      .write(toFile: path.string, atomically: false, encoding: .utf8)
    let index = try ChunkIndex(verifying: chunk.file)
    let (connection, ledger) = (connection, ledger)
    _ = try await connection.withTransaction { transaction in
      let lines = try await ResultLoad(
        transaction: transaction, ledger: ledger, chunk: chunk, attempt: attempt
      ).run(path: path, index: index)
      return try await ledger.resultCollected(
        attempt, of: chunk,
        .init(bytes: 0, lines: lines, sha256: [UInt8](repeating: 0, count: 32)), on: transaction)
    }
  }

  func apply(_ index: Int) async throws {
    let chunk = try await ledger.chunk(chunkIDs[index])
    guard let dataset = definition.dataset(named: chunk.dataset) else { return }
    _ = try await ApplyStage(
      connection: connection, ledger: ledger, catalog: catalog, definition: definition,
      logger: logger
    ).apply(chunk, dataset: dataset)
  }

  private static func line(_ id: Int64, _ answer: WarehouseModel.Answer) -> String {
    let action =
      switch answer.reason {
      case "geo_scrubbed": "scrub_geo"
      case "tweet_edited": "rehydrate"
      default: "delete"
      }
    let redacted = answer.redactedAt.map {
      #""2026-01-01T00:00:\#($0 < 10 ? "0" : "")\#($0).000Z""#
    }
    return
      #"{"id":"\#(id)","action":"\#(action)","reason":"\#(answer.reason)","redacted_at":\#(redacted ?? "null")}"#
      + "\n"
  }
}
