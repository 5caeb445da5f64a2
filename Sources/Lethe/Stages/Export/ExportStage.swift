public import ChunkFiles
public import Definitions
public import Ledger
public import Logging
public import PostgreSQL
public import SystemPackage
public import Vocabulary
public import Warehouse

/// Warehouse → chunks: streams a dataset's IDs out in key order and cuts them into files, each
/// recorded in the ledger once it is safely on disk.
///
/// One COPY is one snapshot. An export that was interrupted goes on after its last recorded chunk,
/// with a new snapshot for the rest.
public struct ExportStage: Sendable {
  /// For the COPY; the ledger's writes go over another one meanwhile.
  private let connection: Connection
  private let ledger: ExportLedger
  private let catalog: Catalog
  private let workDirectory: FilePath
  /// Of a dataset's rows, how many may be left out, 0 to 100; nil lets all but everything pass.
  private let skippedPercentMax: Double?
  private let logger: Logger

  public init(
    connection: Connection, ledger: ExportLedger, catalog: Catalog, workDirectory: FilePath,
    skippedPercentMax: Double? = nil, logger: Logger
  ) {
    self.connection = connection
    self.ledger = ledger
    self.catalog = catalog
    self.workDirectory = workDirectory
    self.skippedPercentMax = skippedPercentMax
    self.logger = logger
  }

  /// Exports what is not exported yet of a dataset; nothing of one that leaves out too many rows.
  ///
  /// - Parameter chunkExported: called after each chunk is in the ledger, with its ID.
  public func export(
    _ dataset: Dataset, chunkExported: @Sendable (Int64) async -> Void
  ) async throws {
    let progress = try await ledger.progress(of: dataset.name, type: dataset.type)
    guard !progress.isFinished else { return }
    if progress.chunks > 0 {
      logger.info(
        "\(dataset.name): export goes on after ID \(progress.exportedThrough), \(progress.chunks) chunks are there"
      )
    }
    let query = try ExportQuery(dataset, catalog: catalog)
    if !progress.isCounted, try await isStopped(dataset, query) { return }
    var cutter = try ChunkCutter(
      directory: workDirectory, prefix: dataset.name,
      limits: ChunkLimits(ids: dataset.chunkIDsMax, bytes: dataset.chunkBytesMax),
      firstNumber: progress.chunks + 1)
    // Taken before the COPY's own: what is in between counts as newer than the export.
    let snapshot = try await connection.query("SELECT pg_current_snapshot()::text")
      .onlyRow(as: String.self)
    do {
      try await connection.withCopyOut(query.sql(after: progress.exportedThrough)) { rows in
        for try await block in rows {
          for chunk in try cutter.append(rows: block) {
            await chunkExported(try await record(chunk, of: dataset, snapshot))
          }
        }
      }
      // Only now is the COPY known to be complete, and so the last chunk.
      if let chunk = try cutter.finish() {
        await chunkExported(try await record(chunk, of: dataset, snapshot))
      }
    } catch {
      cutter.abandon()
      throw error
    }
    try await ledger.datasetExported(dataset.name)
    logger.info("\(dataset.name): exported")
  }

  /// Counts the rows that are left out, before there is a job.
  private func isStopped(_ dataset: Dataset, _ query: ExportQuery) async throws -> Bool {
    let leftOut = try await query.leftOut(on: connection)
    let why = leftOut.reasonToStop(percentMax: skippedPercentMax)
    try await ledger.leftOutCounted(leftOut, of: dataset.name, stopping: why)
    if let why {
      logger.error("\(dataset.name) is not exported: \(why)")
    } else if leftOut.rows > 0 {
      logger.warning(
        """
        \(dataset.name): \(leftOut.rows) of \(leftOut.rowsOfDataset) rows are left out, and nobody asks about them: \
        \(leftOut.words)
          remedy: lethe check tells what to do
        """)
    }
    return why != nil
  }

  /// What exporting a dataset would come to.
  public struct Plan: Sendable, Equatable {
    public let ids: Int
    public let bytes: Int
    /// One more at times: where chunks are cut shows only when they are.
    public let chunks: Int
    public let leftOut: LeftOutRows
  }

  /// Counts what `export` would write. Changes nothing.
  public static func plan(
    _ dataset: Dataset, catalog: Catalog, on session: some Session
  ) async throws -> Plan {
    let query = try ExportQuery(dataset, catalog: catalog)
    let (ids, bytes) = try await session.query(query.totalsSQL)
      .onlyRow(as: Int.self, Int.self)
    func pieces(_ total: Int, _ most: Int) -> Int { (total + most - 1) / most }
    return Plan(
      ids: ids, bytes: bytes,
      chunks: max(pieces(ids, dataset.chunkIDsMax), pieces(bytes, dataset.chunkBytesMax)),
      leftOut: try await query.leftOut(on: session))
  }

  /// Which IDs a dataset has rows of, within its `where` or not.
  public static func stored(in dataset: Dataset, catalog: Catalog) -> StoredIDs {
    { ids, transaction in
      try await transaction.query(
        ExportQuery(dataset, catalog: catalog).storedSQL(among: ids)
      ).rows(as: Int64.self)
    }
  }

  public enum Rewrite: Sendable {
    case file(ChunkFile)
    /// The key range has no row any more.
    case empty
    /// The key range has more rows now than a chunk may hold.
    case tooLarge
  }

  /// Writes the file of a chunk again, from the rows that its key range has now.
  public func rewriteFile(of chunk: Chunk, dataset: Dataset) async throws -> Rewrite {
    // Under a name of its own: the export beside it may be writing any other.
    var cutter = try ChunkCutter(
      directory: workDirectory, prefix: "\(dataset.name)-again-\(chunk.id)",
      limits: ChunkLimits(ids: .max, bytes: dataset.chunkBytesMax), firstNumber: chunk.number)
    let query = try ExportQuery(dataset, catalog: catalog)
    do {
      let isWhole = try await connection.withCopyOut(
        query.sql(after: chunk.firstID - 1, through: chunk.lastID)
      ) { rows in
        for try await block in rows where try !cutter.append(rows: block).isEmpty { return false }
        return true
      }
      guard isWhole else {
        cutter.abandon()
        return .tooLarge
      }
      return try cutter.finish().map(Rewrite.file) ?? .empty
    } catch {
      cutter.abandon()
      throw error
    }
  }

  private func record(
    _ file: ChunkFile, of dataset: Dataset, _ snapshot: String
  ) async throws -> Int64 {
    let id = try await ledger.chunkExported(
      file, dataset: dataset.name, type: dataset.type, snapshot: snapshot)
    logger.info(
      "\(dataset.name): chunk \(file.number) exported, \(file.ids) IDs",
      metadata: ["stage": "export", "dataset": "\(dataset.name)", "chunk": "\(id)"])
    return id
  }
}
