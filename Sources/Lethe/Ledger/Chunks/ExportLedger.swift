public import ChunkFiles
import CrashPoints
public import PostgreSQL
import SystemPackage
public import Vocabulary

/// The records of export: chunks, and the progress of each dataset.
public struct ExportLedger: Sendable {
  public let connection: Connection
  let run: Run
  public let lease: Lease

  public init(connection: Connection, run: Run, lease: Lease) {
    self.connection = connection
    self.run = run
    self.lease = lease
  }

  public struct Progress: Sendable {
    /// The last ID that was exported to a recorded chunk. The export continues after it. 0 before the first chunk.
    public let exportedThrough: Int64
    public let chunks: Int
    public let isFinished: Bool
    /// Whether the number of rows that are left out is already recorded.
    public let isCounted: Bool
  }

  private func isHeld(_ dataset: String) -> SQL {
    lease.isHeld(.export(runID: run.id, dataset: dataset))
  }

  /// Whether the export of a dataset has ended.
  public func isFinished(_ dataset: String) async throws -> Bool {
    try await connection.query(
      """
      SELECT EXISTS (SELECT FROM lethe.export
                     WHERE run_id = \(run.id) AND dataset = \(dataset) AND finished_at IS NOT NULL)
      """
    ).onlyRow(as: Bool.self)
  }

  /// The progress of a dataset's export. The first call starts the export.
  public func progress(of dataset: String, type: JobType) async throws -> Progress {
    try await connection.execute(
      recording: .exportBegun,
      """
      INSERT INTO lethe.export (run_id, dataset, type)
      SELECT run_id, \(dataset), \(type.rawValue)::lethe.job_type FROM lethe.run AS r
      WHERE run_id = \(run.id) AND \(isHeld(dataset))
      ON CONFLICT (run_id, dataset) DO NOTHING
      """)
    guard
      let row = try await connection.query(
        """
        SELECT exported_through, chunks, finished_at IS NOT NULL, left_out IS NOT NULL
        FROM lethe.export WHERE run_id = \(run.id) AND dataset = \(dataset)
        """
      ).firstRow(as: Int64.self, Int.self, Bool.self, Bool.self)
    else { throw LedgerError.leaseLost("run \(run.id)") }
    return Progress(
      exportedThrough: row.0, chunks: row.1, isFinished: row.2, isCounted: row.3)
  }

  /// Records a chunk whose file is complete on disk, and moves the export's position to the end of the chunk.
  ///
  /// - Parameter snapshot: the export's snapshot, in the format of `pg_current_snapshot()`.
  /// - Returns: the chunk's ID.
  public func chunkExported(
    _ file: ChunkFile, dataset: String, type: JobType, snapshot: String
  ) async throws -> Int64 {
    try await connection.withTransaction(recording: .chunkExported) { transaction in
      try await ChunkQueries.guarded(
        transaction, "run \(run.id)",
        """
        UPDATE lethe.export AS e
        SET exported_through = \(file.lastID), chunks = chunks + 1, ids = ids + \(file.ids)
        FROM lethe.run AS r
        WHERE e.run_id = \(run.id) AND e.dataset = \(dataset) AND r.run_id = e.run_id
          AND \(isHeld(dataset))
          AND e.exported_through < \(file.firstID) AND e.finished_at IS NULL
        """)
      return try await transaction.query(
        """
        INSERT INTO lethe.chunk
          (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path, lease,
           file_host, exported_snapshot)
        SELECT \(run.id), \(dataset), \(type.rawValue)::lethe.job_type, coalesce(max(number), 0) + 1,
          \(file.firstID), \(file.lastID), \(file.ids), \(file.bytes), \(file.sha256),
          \(file.path.string), \(lease.token), nullif(\(lease.host), ''),
               \(snapshot)::pg_snapshot
        FROM lethe.chunk WHERE run_id = \(run.id) AND dataset = \(dataset)
        RETURNING chunk_id
        """
      ).onlyRow(as: Int64.self)
    }
  }

  /// Records the number of a dataset's rows that are not exported.
  /// - Parameter why: why the dataset is not exported. Nil if it is exported. It must not contain the content of a row.
  public func leftOutCounted(
    _ rows: LeftOutRows, of dataset: String, stopping why: String?
  ) async throws {
    let causes = rows.byCause.sorted { $0.key.rawValue < $1.key.rawValue }
    try await ChunkQueries.guarded(
      connection, "run \(run.id)", recording: .leftOutCounted,
      """
      UPDATE lethe.export AS e
      SET left_out = (SELECT coalesce(pg_catalog.jsonb_object_agg(cause, rows), '{}')
                      FROM unnest(\(causes.map(\.key.rawValue))::text[],
                        \(causes.map { Int64($0.value) })::bigint[]) AS n (cause, rows)),
          rows_of_dataset = \(rows.rowsOfDataset), failure = \(why)::text,
            is_stopped = \(why)::text IS NOT NULL,
          finished_at = CASE WHEN \(why)::text IS NOT NULL THEN clock_timestamp() END
      FROM lethe.run AS r
      WHERE e.run_id = \(run.id) AND e.dataset = \(dataset) AND r.run_id = e.run_id
        AND \(isHeld(dataset))
        AND e.finished_at IS NULL
      """)
  }

  /// Records that the rest of the dataset cannot be exported. The chunks that are already recorded continue.
  /// - Parameter why: the reason, with names of tables and columns. It must not contain the content of a row.
  public func exportRefused(_ dataset: String, why: String) async throws {
    try await ChunkQueries.guarded(
      connection, "run \(run.id)", recording: .exportRefused,
      """
      UPDATE lethe.export AS e SET finished_at = clock_timestamp(), failure = \(prose: why)
      FROM lethe.run AS r
      WHERE e.run_id = \(run.id) AND e.dataset = \(dataset) AND r.run_id = e.run_id
        AND \(isHeld(dataset))
        AND e.finished_at IS NULL
      """)
  }

  /// Records that every ID of the dataset is in a chunk.
  public func datasetExported(_ dataset: String) async throws {
    try await ChunkQueries.guarded(
      connection, "run \(run.id)", recording: .datasetExported,
      """
      UPDATE lethe.export AS e SET finished_at = clock_timestamp()
      FROM lethe.run AS r
      WHERE e.run_id = \(run.id) AND e.dataset = \(dataset) AND r.run_id = e.run_id
        AND \(isHeld(dataset))
        AND e.finished_at IS NULL
      """)
  }
}
