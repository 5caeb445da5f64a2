public import ChunkFiles
public import Definitions
public import Ledger
public import Logging
public import PostgreSQL
public import SystemPackage
public import Vocabulary
public import Warehouse

/// Warehouse → chunks: streams a dataset's IDs in key order and splits them into files. Each file is recorded
/// in the ledger after it is synced.
///
/// One COPY is one snapshot. An interrupted export continues after its last recorded chunk, with a
/// new snapshot for the rest.
public struct ExportStage: Sendable {
  /// The connection of the COPY. The ledger writes over another connection at the same time.
  private let connection: Connection
  private let ledger: ExportLedger
  private let catalog: Catalog
  private let workDirectory: FilePath
  /// The percentage of a dataset's rows that may be left out, 0 to 100. If it is nil, the export stops only
  /// if all rows would be left out.
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

  /// Exports the rest of a dataset. If too many rows would be left out, nothing is exported.
  ///
  /// - Parameter chunkExported: called after each chunk is in the ledger, with its ID.
  public func export(
    _ dataset: Dataset, chunkExported: @Sendable (Int64) async -> Void
  ) async throws {
    let progress = try await ledger.progress(of: dataset.name, type: dataset.type)
    guard !progress.isFinished else { return }
    if progress.chunks > 0 {
      logger.info(
        "\(dataset.name): export continues after ID \(progress.exportedThrough), after \(progress.chunks) chunks"
      )
    }
    let query = try ExportQuery(dataset, catalog: catalog)
    if !progress.isCounted, try await isStopped(dataset, query) { return }
    var cutter = try ChunkCutter(
      directory: workDirectory, prefix: "\(dataset.name)-\(ledger.lease.fileTag)",
      limits: ChunkLimits(ids: dataset.chunkIDsMax, bytes: dataset.chunkBytesMax),
      firstNumber: progress.chunks + 1)
    // This snapshot is taken before the COPY's own snapshot, so that changes between the two count as newer
    // than the export.
    let snapshot = try await connection.query("SELECT pg_current_snapshot()::text")
      .onlyRow(as: String.self)
    do {
      var rows = BigintRows()
      try await connection.withCopyOut(query.sql(after: progress.exportedThrough)) { blocks in
        for try await block in blocks {
          for chunk in try cutter.append(rows.values(in: block)) {
            await chunkExported(try await record(chunk, of: dataset, snapshot))
          }
        }
      }
      // The COPY is complete only here. If the last chunk were recorded before, it could be truncated.
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

  /// Counts the rows that would be left out, before anything is exported.
  /// - Returns: whether there are too many of them.
  private func isStopped(_ dataset: Dataset, _ query: ExportQuery) async throws -> Bool {
    let leftOut = try await query.leftOut(on: connection)
    let why = leftOut.reasonToStop(percentMax: skippedPercentMax)
    try await ledger.leftOutCounted(leftOut, of: dataset.name, stopping: why)
    if let why {
      logger.error(
        """
        \(dataset.name) is not exported: \(why)
          remedy: run lethe check to see what to do; or raise max_skipped_percent, if some rows have usable IDs
        """, metadata: ledger.metadata(dataset.name))
    } else if leftOut.rows > 0 {
      logger.warning(
        """
        \(dataset.name): \(leftOut.rows) of \(leftOut.rowsOfDataset) rows are left out, and the API is not asked about them: \
        \(leftOut.summary)
          remedy: run lethe check to see what to do
        """, metadata: ledger.metadata(dataset.name))
    }
    return why != nil
  }

  /// The size of a dataset's export.
  public struct Plan: Sendable, Equatable {
    public let ids: Int
    public let bytes: Int
    /// The estimated number of chunks. The export can create more, because each chunk ends at the limit that it
    /// reaches first: IDs or bytes.
    public let chunks: Int
    public let leftOut: LeftOutRows
  }

  /// Counts the IDs and bytes that `export` would write. Changes nothing.
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

  /// Returns a function that finds those of the given IDs that have rows in the dataset's table. The dataset's `where`
  /// is not used.
  public static func stored(in dataset: Dataset, catalog: Catalog) -> StoredIDs {
    { ids, transaction in
      try await transaction.query(
        ExportQuery(dataset, catalog: catalog).storedSQL(among: ids)
      ).rows(as: Int64.self)
    }
  }

  /// The result of writing a chunk's file again.
  public enum Rewrite: Sendable {
    case file(ChunkFile)
    /// The key range now has no IDs.
    case empty
    /// The key range now has more bytes than a chunk may have.
    case tooLarge
  }

  /// Writes the file of a chunk again, from the rows that are now in its key range.
  public func rewriteFile(of chunk: Chunk, dataset: Dataset) async throws -> Rewrite {
    // The file has its own name, because an export at the same time may write files with the usual names.
    var cutter = try ChunkCutter(
      directory: workDirectory, prefix: "\(dataset.name)-\(ledger.lease.fileTag)-again-\(chunk.id)",
      limits: ChunkLimits(ids: .max, bytes: dataset.chunkBytesMax), firstNumber: chunk.number)
    let query = try ExportQuery(dataset, catalog: catalog)
    do {
      var rows = BigintRows()
      let isWhole = try await connection.withCopyOut(
        query.sql(after: chunk.firstID - 1, through: chunk.lastID)
      ) { blocks in
        for try await block in blocks
        where try !cutter.append(rows.values(in: block)).isEmpty { return false }
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
