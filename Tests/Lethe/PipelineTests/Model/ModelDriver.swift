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

/// Runs Lethe's own stages on a real warehouse, with the same input that `WarehouseModel` gets in memory. The driver
/// does not use the API: it updates a job's row directly and writes the job's result to a file. Of the model's files,
/// only this one depends on Lethe's stages.
struct ModelDriver {
  /// A run and the objects that its stages use.
  private struct StartedRun {
    let run: Run
    let definition: Definition
    let catalog: Catalog
  }

  let connection: Connection
  /// The connection for exports. During an export, the ledger uses the other connection.
  let copying: Connection
  let directory: FilePath
  let name: String
  /// The keys of a dataset that set the sizes of its chunks and batches.
  let sizes: String
  private let lease = Lease()
  private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  private var runs: [StartedRun] = []
  /// Each chunk's ID and its run, in the order of the model's chunks.
  private var chunks: [(id: Int64, run: Int)] = []

  init(
    name: String, sizes: String, on connection: Connection, copying: Connection,
    directory: FilePath
  ) {
    (self.name, self.sizes) = (name, sizes)
    (self.connection, self.copying, self.directory) = (connection, copying, directory)
  }

  // MARK: The start of a run

  struct Exported {
    let type: String
    let ids: Set<Int64>
    let range: ClosedRange<Int64>
  }

  /// Exports all datasets into chunks of a new run.
  /// - Returns: the chunks, in the order of the model's chunks.
  mutating func export(_ plan: ModelPlan) async throws -> [Exported] {
    try await connection.waitForOtherDatabases()
    let yaml = plan.yaml(name: name, sizes: sizes)
    let definition = try Pipeline.parse(yaml: yaml, file: "model.yaml", environment: [:]).definition
    let catalog = try await Catalog(of: definition, on: connection)
    let run = try await RunLedger(connection: connection)
      .begin(definition, in: directory.string, lease: lease)
    try FileManager.default.createDirectory(
      atPath: run.workDirectory, withIntermediateDirectories: true)
    runs.append(StartedRun(run: run, definition: definition, catalog: catalog))
    var exported: [Exported] = []
    for dataset in definition.datasets {
      let stage = ExportStage(
        connection: copying,
        ledger: ExportLedger(connection: connection, run: run, lease: lease), catalog: catalog,
        workDirectory: FilePath(run.workDirectory), logger: logger)
      try await stage.export(dataset) { _ in }
    }
    for chunk in try await ledger.chunks(of: run.id, in: [.exported]) {
      chunks.append((chunk.id, runs.count - 1))
      let text = try String(contentsOfFile: chunk.path, encoding: .utf8)
      exported.append(
        Exported(
          type: chunk.type.rawValue, ids: Set(text.split(separator: "\n").compactMap { Int64($0) }),
          range: chunk.firstID...chunk.lastID))
    }
    return exported
  }

  private var ledger: ChunkLedger { ChunkLedger(connection: connection, lease: lease) }

  /// Records a completed job for a chunk.
  func ask(_ index: Int, askedAt: Int) async throws {
    let id = chunks[index].id
    let attempt = try await ledger.jobIntended(for: ledger.chunk(id))
    let created = try await ledger.jobCreated(
      attempt, of: ledger.chunk(id), apiID: "\(id)",
      at: Timestamp(microsecondsSince2000: Int64(askedAt) * 1_000_000))
    try await ledger.fileUploaded(created, of: ledger.chunk(id))
    try await ledger.jobCompleted(created, of: ledger.chunk(id))
  }

  // MARK: Collect and apply

  /// Collects the body of a chunk's result. A body that is not a result is refused, and nothing of it is kept.
  func collect(_ index: Int, _ modelChunk: ModelChunk) async throws {
    do {
      try await collect(index, lines: modelChunk.lines)
    } catch  where !modelChunk.isResult {}
  }

  private func collect(_ index: Int, lines: [ModelChunk.Line]) async throws {
    let chunk = try await ledger.chunk(chunks[index].id)
    guard let attempt = try await ledger.liveAttempt(at: chunk) else { return }
    let path = FilePath(chunk.path + ".result")
    let text = lines.map(Self.text).joined()
    try text.write(toFile: path.string, atomically: false, encoding: .utf8)
    let ids = try ChunkIndex(verifying: chunk.file)
    let (connection, ledger) = (connection, ledger)
    _ = try await connection.withTransaction { transaction in
      let (lines, kept) = try await ResultLoad(
        transaction: transaction, ledger: ledger, chunk: chunk, attempt: attempt,
        stored: stored(of: chunk, index)
      ).run(path: path, bytes: text.utf8.count, index: ids)
      return try await ledger.resultCollected(
        attempt, of: chunk,
        .init(bytes: 0, lines: lines, quarantined: kept, sha256: [UInt8](repeating: 0, count: 32)),
        on: transaction)
    }
  }

  /// Applies a chunk. Refused work is set aside: single events by their IDs, or the whole chunk.
  func apply(_ index: Int) async throws {
    let run = runs[chunks[index].run]
    let chunk = try await ledger.chunk(chunks[index].id)
    guard let dataset = run.definition.dataset(named: chunk.dataset) else { return }
    do {
      _ = try await ApplyStage(
        connection: connection, ledger: ledger, catalog: run.catalog,
        definition: run.definition, logger: logger
      ).apply(chunk, dataset: dataset)
    } catch let error as ApplyError {
      try await ledger.chunkSetAside(
        chunk, why: error.message, remedy: error.remedy, isRetryable: true)
    }
  }

  /// Retries the work of a chunk that was set aside, unless newer answers superseded all of it.
  func retry(_ index: Int) async throws {
    let chunk = try await ledger.chunk(chunks[index].id)
    let runs = RunLedger(connection: connection)
    do {
      try await runs.endSupersededRefusals(pipeline: chunk.pipeline)
      for each in try await runs.retryable(chunkID: chunk.id, ids: [], pipeline: chunk.pipeline) {
        try await ledger.retried(chunk, ids: each.ids, stored: stored(of: chunk, index))
        try await apply(index)
      }
    } catch let error as LedgerError where error.code == .refused {
      // No work is left.
    }
  }

  private func stored(of chunk: Chunk, _ index: Int) -> StoredIDs {
    let run = runs[chunks[index].run]
    guard let dataset = run.definition.dataset(named: chunk.dataset) else {
      return { _, _ in [] }
    }
    return ExportStage.stored(in: dataset, catalog: run.catalog)
  }

  /// Gives up the run of a chunk.
  func giveUp(runOf index: Int) async throws {
    try await RunLedger(connection: connection)
      .runGivenUp(runs[chunks[index].run].run.id, lease: lease)
  }

  /// Whether two chunks belong to the same run.
  func belongToSameRun(_ left: Int, _ right: Int) -> Bool {
    chunks[left].run == chunks[right].run
  }

  private static func text(_ line: ModelChunk.Line) -> String {
    switch line {
    case .event(let id, let answer):
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
    case .unknown(let id): return #"{"id":"\#(id)","action":"delete","reason":"withheld"}"# + "\n"
    case .invalid(let id): return #"{"id":"\#(id)","error":"invalid_id"}"# + "\n"
    case .unattributable: return #"{"oops":1}"# + "\n"
    case .garbage: return "<html>login</html>\n"
    case .blank: return "\n"
    }
  }

  // MARK: The content of the ledger

  // Each query returns an ID and a text for each entry. The ID shows which case the entry belongs to.

  static let tombstones = "SELECT id, concat_ws(' ', type, id, reason) FROM lethe.tombstone"

  static let rehydrations = "SELECT id, id::text FROM lethe.rehydration"

  static let records = """
    SELECT id, action || ' ' || type || ' ' || id || ' ' || reason || ' cause '
               || coalesce(cause_id, 0)
               || CASE WHEN superseded_by IS NULL THEN '' ELSE ' superseded' END
    FROM (SELECT id, action, type, reason, cause_id, superseded_by FROM lethe.event
          UNION ALL SELECT id, action, type, reason, NULL, NULL FROM \(PipelineFixture.tracedEvents) AS t) AS e
    """

  /// The held columns: the row, the column, the former value, and the value that Lethe set.
  static let holds = """
    SELECT k.value::bigint, concat_ws(' ', table_name, k.value, f.key, \(plain("f.value")),
                                      \(plain("set_to ->> f.key")))
    FROM lethe.hold, jsonb_each_text(row_key) AS k, jsonb_each_text(former) AS f
    """

  /// The holders of a hold, and the columns that each holder has set and that are still held.
  static let holders = """
    SELECT k.value::bigint, concat_ws(' ', table_name, k.value, o.type, o.id, c.name)
    FROM lethe.hold AS h JOIN lethe.holder AS o USING (hold_id), unnest(o.columns) AS c (name),
         jsonb_each_text(row_key) AS k
    WHERE h.set_to ? c.name
    """

  /// A value of a hold in the form of the model. A JSON value is the list of its keys.
  private static func plain(_ value: String) -> String {
    """
    CASE WHEN f.key = 'raw' AND \(value) IS NOT NULL
      THEN (SELECT coalesce(string_agg(n, ',' ORDER BY n), '')
            FROM jsonb_object_keys((\(value))::jsonb) AS n)
      ELSE coalesce(CASE \(value) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE \(value) END, '-') END
    """
  }
}
