public import Definitions
public import Ledger
public import Logging
public import PostgreSQL
import Vocabulary
public import Warehouse

/// Events → warehouse: changes the rows that a chunk's events reach, in batches in key order. The rows
/// of a batch, its event records, its tombstones and the chunk's position change in one transaction.
public struct ApplyStage: Sendable {
  private let connection: Connection
  private let ledger: ChunkLedger
  private let catalog: Catalog
  private let definition: Definition
  private let logger: Logger

  /// How often a batch is tried that lost a deadlock, or a wait for somebody's row lock.
  private static let triesMax = 8
  /// The same for a row that is still referenced: a writer may have added the reference just now.
  private static let triesMaxOfReferenced = 3
  /// A batch that cannot have a row in this time lets go of those it has, and comes back.
  private static let lockTimeoutMilliseconds = 5_000

  public enum Outcome: Sendable, Equatable {
    case applied
    /// A limit stopped it before a row was touched; why.
    case stopped(String)
  }

  public init(
    connection: Connection, ledger: ChunkLedger, catalog: Catalog, definition: Definition,
    logger: Logger
  ) {
    self.connection = connection
    self.ledger = ledger
    self.catalog = catalog
    self.definition = definition
    self.logger = logger
  }

  /// Takes a chunk from `collected` to `applied`.
  ///
  /// - Throws: `ApplyError` if the warehouse does not take a change; `PostgreSQLError` if the server
  ///   cannot be had, or a lock cannot after all tries. What earlier batches did stays, and the chunk
  ///   goes on after them.
  public func apply(_ chunk: Chunk, dataset: Dataset) async throws -> Outcome {
    let changes = try Change.all(of: dataset, in: definition, catalog: catalog)
    var through = chunk.appliedThrough ?? chunk.firstID - 1
    if through < chunk.firstID, !chunk.isApproved,
      let why = try await LimitCheck(
        connection: connection, ledger: ledger, limits: definition.limits
      )
      .reasonToStop(chunk, dataset: dataset, changes: changes)
    {
      try await ledger.chunkStopped(chunk, why: why)
      return .stopped(why)
    }
    let jobID = try await ledger.collectedJobID(of: chunk)
    try await connection.execute("SELECT lethe.ensure_event_partitions(now())")
    try await connection.runScript(Bookkeeping.scratchTables)
    while let end = try await ledger.batchEnd(
      of: chunk, after: through, events: dataset.batchEvents, on: connection)
    {
      let range = EventRange(chunkID: chunk.id, after: through, through: end)
      try await retrying(chunk) { transaction in
        try await apply(
          range, of: chunk, dataset: dataset, changes: changes, jobID: jobID, on: transaction)
      }
      through = end
      logger.debug(
        "\(chunk.label): events applied up to ID \(end)",
        metadata: ["stage": "apply", "chunk": "\(chunk.id)"])
    }
    let end = through
    try await retrying(chunk) { transaction in
      try await ledger.chunkApplied(chunk, after: end, on: transaction)
    }
    logger.info(
      "\(chunk.label): applied", metadata: ["stage": "apply", "chunk": "\(chunk.id)"])
    return .applied
  }

  /// One batch, whole or not at all.
  private func apply(
    _ range: EventRange, of chunk: Chunk, dataset: Dataset, changes: [Change], jobID: Int64,
    on transaction: Transaction
  ) async throws {
    try await transaction.execute("SET LOCAL lock_timeout = \(Self.lockTimeoutMilliseconds)")
    let bookkeeping = Bookkeeping(
      transaction: transaction, chunk: chunk, dataset: dataset, jobID: jobID, changes: changes)
    try await bookkeeping.endProtections(range)
    for (index, change) in changes.enumerated() {
      let statement = change.statement(for: range, number: index + 1, jobID: jobID)
      do {
        _ = try await transaction.run(statement.sql, statement.parameters)
      } catch let error as PostgreSQLError where !error.isTemporary {
        throw Self.explained(error, change, chunk)
      }
    }
    try await bookkeeping.record(range)
    try await ledger.batchApplied(
      of: chunk, after: range.after, through: range.through, on: transaction)
  }

  private func retrying(
    _ chunk: Chunk, _ body: (Transaction) async throws -> Void
  ) async throws {
    for tries in 1... {
      do {
        return try await connection.withTransaction(body)
      } catch let error as PostgreSQLError where error.isRetryableTransaction {
        guard tries < Self.triesMax else { throw error }
        logger.notice(
          "\(chunk.label): \(error.message); the batch was rolled back and is tried again")
      } catch let error as ApplyError where error.mayPass {
        guard tries < Self.triesMaxOfReferenced else { throw error }
        logger.notice("\(chunk.label): \(error.message); the batch is tried again")
      }
      try await Task.sleep(for: .milliseconds(Int.random(in: 50...150) * (1 << min(tries, 5))))
    }
  }

  private static func explained(
    _ error: PostgreSQLError, _ change: Change, _ chunk: Chunk
  ) -> ApplyError {
    let what = "\(chunk.label): \(change.label): \(error.message)"
    if error.state == .foreignKeyViolation, let constraint = error.constraint {
      return ApplyError(
        message: "\(what) (constraint \(constraint))",
        remedy: """
          declare \(error.table ?? "the referencing table") as a target of the dataset, before \
          \(change.reach.table.name), with the same reasons mapped to delete; a run that has begun keeps \
          its definition: lethe run --give-up ends it and begins anew
          """, mayPass: true)
    }
    return ApplyError(
      message: "\(what)\(error.detail.map { " (\($0))" } ?? "")",
      remedy: error.hint ?? """
        make the table take the change; or change the dataset's actions, and lethe run --give-up, for a \
        run that has begun keeps its definition
        """)
  }
}
