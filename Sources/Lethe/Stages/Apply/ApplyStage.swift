import CrashPoints
public import Definitions
internal import Failures
public import Ledger
public import Logging
public import PostgreSQL
import Vocabulary
public import Warehouse

/// Events → warehouse: changes the rows that a chunk's events reach, in batches in key order. One transaction
/// changes the rows of a batch, its event records, its tombstones and the chunk's position.
public struct ApplyStage: Sendable {
  let connection: Connection
  let ledger: ChunkLedger
  private let catalog: Catalog
  private let definition: Definition
  /// Whether everything is done within one transaction of the caller.
  private let isEnclosed: Bool
  private let pacer: ApplyPacer?
  let logger: Logger

  /// The number of tries for a batch that failed because of a deadlock, a serialization failure or a lock timeout.
  private static let triesMax = 8
  /// The number of tries if a row to delete is still referenced, or if rows still need the change afterwards. A
  /// concurrent writer might be the cause.
  static let triesMaxWithConcurrentWriter = 3

  /// How often the tables are searched for rows of an event that is applied in several transactions. Other writers
  /// can add rows between the transactions.
  private static let roundsMax = 5

  public enum Outcome: Sendable, Equatable {
    case applied
    /// A limit stopped the chunk before any row was changed, with the reason.
    case stopped(String)
  }

  /// - Parameters:
  ///   - isEnclosed: whether the connection is in an enclosing transaction. The enclosing transaction
  ///     decides whether the changes are committed.
  ///   - pacer: makes apply wait between transactions; nil within an enclosing transaction.
  public init(
    connection: Connection, ledger: ChunkLedger, catalog: Catalog, definition: Definition,
    isEnclosed: Bool = false, pacer: ApplyPacer? = nil, logger: Logger
  ) {
    self.connection = connection
    self.ledger = ledger
    self.catalog = catalog
    self.definition = definition
    self.isEnclosed = isEnclosed
    self.pacer = pacer
    self.logger = logger
  }

  /// Applies a chunk: takes it from `collected` to `applied`. Sets aside the events that the warehouse refuses, and
  /// applies all others.
  ///
  /// - Throws: `ApplyError` if the chunk cannot be applied: if an event is refused and the dataset has
  ///   `atomic: chunk`, if too many events are refused, if a statement exceeds the session's own timeout, or if the
  ///   tables no longer fit the definition. `LedgerError` if another process has taken over the chunk, or if the ledger
  ///   lacks the chunk's events. `PostgreSQLError` if the server cannot be reached, or if all tries of a batch fail
  ///   because of other transactions. The changes of earlier batches stay, and the next try continues after them.
  public func apply(_ chunk: Chunk, dataset: Dataset) async throws -> Outcome {
    do {
      return try await applied(chunk, dataset)
    } catch {
      throw ApplyError(refusing: chunk, error) ?? error
    }
  }

  private func applied(_ chunk: Chunk, _ dataset: Dataset) async throws -> Outcome {
    var work = try await work(on: chunk, dataset)
    try await HoldKeys(connection: connection, catalog: catalog).bringUpToDate(work.plan)
    var through = chunk.appliedThrough ?? chunk.firstID - 1
    if through < chunk.firstID {
      if !chunk.isApproved, let why = try await reasonToStop(work) {
        try await ledger.chunkStopped(chunk, why: why)
        return .stopped(why)
      }
      try await setAsideReferencedEvents(work)
    }
    try await CrashStep.partitionsCreated.around {
      try await connection.execute("SELECT lethe.ensure_event_partitions(now())")
    }
    while let range = try await nextRangeAfterWait(after: through, &work) {
      guard try await apply(range, &work) else { continue }
      if let limits = dataset.batch { work.cap.noteBatch(limit: limits.events) }
      through = range.through
      logger.debug(
        "\(chunk.label): events applied up to ID \(through)",
        metadata: chunk.metadata("apply"))
    }
    let (end, jobID) = (through, work.context.origin.jobID)
    try await retrying(chunk) {
      try await connection.withTransaction(recording: .chunkApplied) { transaction in
        try await ledger.chunkApplied(chunk, after: end, jobID: jobID, on: transaction)
      }
    }
    try await ledger.refreshHoldStatistics()
    logger.info(
      "\(chunk.label): applied", metadata: chunk.metadata("apply"))
    return .applied
  }

  /// Waits as long as the definition's pace requires. No transaction may be open.
  private func waitForPace(_ work: Work) async throws {
    try await pacer?.wait(before: work.chunk, ledger, on: connection)
  }

  /// Waits before the range is determined. During a wait after it, other sessions could add rows, and the transaction
  /// could reach more rows than the limit allows.
  private func nextRangeAfterWait(after: Int64, _ work: inout Work) async throws -> EventRange? {
    try await waitForPace(work)
    return try await nextRange(after: after, &work)
  }

  /// - Returns: whether the chunk's position is now at the end of the range. The position does not move if
  ///   all events of the range were refused, or if the events must be applied in smaller batches.
  private func apply(_ range: EventRange, _ work: inout Work) async throws -> Bool {
    var batch = range
    do {
      if work.isOversize {
        try await applyInParts(range, &work)
        try await waitForPace(work)
        batch.mayBePartlyApplied = true
      }
      let events = batch
      try await transaction(&work, recording: .batchApplied) { try await $0.apply(events) }
      return true
    } catch {
      guard let refusal = ApplyError(refusing: work.chunk, error), work.plan.dataset.batch != nil,
        !refusal.isTimeout
      else { throw error }
      if work.isOversize { batch.mayBePartlyApplied = true }
      return try await applyOthers(of: batch, after: refusal, &work)
    }
  }

  // MARK: Work

  /// The work on a chunk, and the size of its next step.
  struct Work {
    let chunk: Chunk
    let plan: ApplyPlan
    var context: BatchContext
    let counts: [ChunkLedger.EventCounts]
    /// The size of the next batch, in events. It is smaller than the definition allows after events that reach many
    /// rows, and then grows again. Nil if the chunk is one batch.
    var eventsMax: Int?
    /// A bound of `eventsMax` after events were refused only together.
    var cap = BatchCap()
    /// The session that has the temporary tables for batches.
    var session: Int?
    /// Whether the next range is one event that reaches more rows than a transaction may change.
    var isOversize = false

    /// The chunk's counts of events, if almost every batch contains all kinds of its events. Then the events of each
    /// batch do not have to be counted. Nil if a kind is rare: some batches then do not need the statements for this
    /// kind.
    var countsOfAnyBatch: [ChunkLedger.EventCounts]? {
      let events = counts.reduce(0) { $0 + $1.events }
      let batches = Double(events) / Double(eventsMax ?? max(events, 1))
      let isRare = counts.flatMap { [$0.events, $0.restoring, $0.partlyApplied] }
        .contains { $0 > 0 && Double($0) < batches }
      return isRare ? nil : counts
    }
  }

  func work(on chunk: Chunk, _ dataset: Dataset) async throws -> Work {
    let job = try await ledger.collectedJob(of: chunk)
    let export = try await ledger.exportMoment(of: chunk)
    let plan = try ApplyPlan(dataset, of: definition, catalog: catalog)
    let origin = BatchOrigin(
      pipeline: chunk.pipeline, dataset: dataset.name, type: dataset.type, chunkID: chunk.id,
      jobID: job.id, askedAt: job.askedAt, number: try await ledger.batches(of: chunk) + 1,
      cluster: export.clusterNow)
    return Work(
      chunk: chunk, plan: plan,
      context: BatchContext(
        origin, plan,
        versions: RowVersions(
          exportedSnapshot: export.snapshot, exportedCluster: export.cluster,
          cluster: export.clusterNow),
        hasPrunedRecords: try await ledger.hasPrunedRecords()),
      counts: try await ledger.eventCounts(of: chunk),
      eventsMax: dataset.batch?.events)
  }

  private func limitCheck(_ work: Work) -> LimitCheck {
    LimitCheck(
      connection: connection, ledger: ledger, limits: definition.limits, context: work.context,
      counts: work.counts)
  }

  func reasonToStop(_ work: Work) async throws -> String? {
    if let why = try await limitCheck(work).reasonToStop(work.chunk, work.plan) {
      return why
    }
    // No approval is needed if newer answers have superseded every event.
    guard work.counts.contains(where: { $0.current > 0 }) else { return nil }
    return try await ledger.stopBeforeAdoption(of: work.chunk)
  }

  /// The events for the next transaction. Contains at most as many events as the limits for events and rows allow,
  /// and the later events that must be in the same transaction. Nil when no event is left.
  func nextRange(after: Int64, _ work: inout Work) async throws -> EventRange? {
    guard let range = try await boundedRange(after: after, &work) else { return nil }
    if work.isOversize { return range }
    return try await CrossReferences(
      connection: connection, context: work.context, plan: work.plan
    ).closed(range, of: work.chunk)
  }

  private func boundedRange(after: Int64, _ work: inout Work) async throws -> EventRange? {
    let chunk = work.chunk
    work.isOversize = false
    guard
      let extent = try await ledger.nextBatch(
        of: chunk, after: after, events: work.eventsMax, assuming: work.countsOfAnyBatch,
        on: connection)
    else { return nil }
    var through = extent.through
    func range() -> EventRange {
      EventRange(
        chunkID: chunk.id, after: after, through: through, reasons: extent.reasons,
        mayRestore: extent.restores, mayBePartlyApplied: extent.isPartlyApplied)
    }
    guard let limits = work.plan.dataset.batch else { return range() }
    while try await rows(reachedBy: range(), work, atMost: limits.rows) > limits.rows {
      guard
        let middle = try await ledger.middle(
          of: chunk, after: after, through: through, on: connection)
      else {
        work.isOversize = true
        return range()
      }
      through = middle
      work.eventsMax = max(1, (work.eventsMax ?? limits.events) / 2)
    }
    work.eventsMax = min(
      limits.events, work.cap.events ?? .max, 2 * (work.eventsMax ?? limits.events))
    return range()
  }

  /// The number of holders that the events of a range release, and of rows that they reach in tables where an event can
  /// reach several rows. The counting stops when the number exceeds `rowsMax`.
  private func rows(
    reachedBy range: EventRange, _ work: Work, atMost rowsMax: Int
  ) async throws -> Int {
    var rows =
      range.mayRestore
      ? try await ledger.releasedHolders(
        after: range.after, through: range.through, of: work.chunk,
        excluding: work.context.protecting, atMost: rowsMax + 1, on: connection) : 0
    for change in work.plan.changes where change.target.fansOut && change.isDue(in: range) {
      if rows > rowsMax { break }
      rows += try await connection.run(
        change.count(of: range, in: work.context, atMost: rowsMax + 1)
      ).onlyRow(as: Int.self)
    }
    return rows
  }

  /// Changes the rows of one event in several transactions: first the rows that it releases, then table by table in
  /// their order. Tables in which an event can reach at most one row are left for the transaction that records the
  /// event. Other writers may add rows in the meantime, so the search repeats until it finds none, up to a limit. If a
  /// trigger undoes the change each time, the last transaction reports this.
  private func applyInParts(_ range: EventRange, _ work: inout Work) async throws {
    guard let rowsMax = work.plan.dataset.batch?.rows else { return }
    var hold: Int64? = range.mayRestore ? 0 : nil
    while let last = hold {
      try await waitForPace(work)
      hold = try await transaction(
        &work, recording: .holdPartReleased, isRecorded: { $0.rowsRestored > 0 }
      ) {
        try await $0.releasePart(of: range, after: last, holdsMax: rowsMax)
      }.lastHold
    }
    for _ in 1...Self.roundsMax {
      var hasFound = false
      for change in work.plan.changes
      where change.target.fansOut && change.isDue(in: range) {
        var rest = try await rows(reachedBy: range, change, work)
        while rest > 0 {
          try await waitForPace(work)
          let rows = try await transaction(
            &work, recording: .eventPartApplied, isRecorded: { $0 > 0 }
          ) {
            try await $0.applyPart(of: range, change: change, rowsMax: rowsMax)
          }
          logger.debug(
            "\(work.chunk.label): \(rows) rows of the event of ID \(range.through): \(change.label)",
            metadata: work.chunk.metadata("apply"))
          if rows == 0 { break }
          hasFound = true
          rest -= rows
        }
      }
      if !hasFound { return }
    }
  }

  private func rows(
    reachedBy range: EventRange, _ change: Change, _ work: Work
  ) async throws -> Int {
    try await connection.run(change.count(of: range, in: work.context)).onlyRow(as: Int.self)
  }

  // MARK: Transactions

  /// - Parameter isRecorded: whether the ledger has a record of the batch, given the value that `body`
  ///   returned.
  func transaction<R: Sendable>(
    _ work: inout Work, recording step: CrashStep, isRecorded: (R) -> Bool = { _ in true },
    _ body: (Batch) async throws -> R
  ) async throws -> R {
    try await createScratchTables(&work)
    let current = work
    let value = try await retrying(work.chunk) {
      try await connection.withTransaction(recording: step) { transaction in
        if isEnclosed { try await transaction.execute(ScratchTables.empty) }
        return try await body(batch(current, transaction))
      }
    }
    if isRecorded(value) { work.context.origin.number += 1 }
    try await pacer?.transactionCommitted(of: work.chunk, ledger)
    return value
  }

  /// Creates the temporary tables if the session is not the session of the last batch. Each session has its own
  /// temporary tables.
  private func createScratchTables(_ work: inout Work) async throws {
    let session = isEnclosed ? 0 : try await connection.currentSession()
    guard work.session != session else { return }
    try await connection.runScript(ScratchTables.ofBatches)
    work.session = session
  }

  func batch(_ work: Work, _ transaction: Transaction) -> Batch {
    Batch(
      transaction: transaction, ledger: ledger, chunk: work.chunk, plan: work.plan,
      catalog: catalog, context: work.context)
  }

  /// - Parameter triesMaxWithConcurrentWriter: the number of tries for failures that a concurrent writer might have
  ///   caused.
  func retrying<R: Sendable>(
    _ chunk: Chunk, triesMaxWithConcurrentWriter: Int = Self.triesMaxWithConcurrentWriter,
    _ body: () async throws -> R
  ) async throws -> R {
    for tries in 1... {
      do {
        return try await body()
      } catch let error as PostgreSQLError where error.isRetryableTransaction {
        guard tries < Self.triesMax else { throw error }
        logger.notice(
          "\(chunk.label): \(error.messageWithoutValues); the batch was rolled back and is tried again"
        )
      } catch let error as ApplyError where error.isTemporary {
        guard tries < triesMaxWithConcurrentWriter else { throw error }
        logger.notice("\(error.summary); the batch was rolled back and is tried again")
      }
      try await Task.sleep(for: .milliseconds(Int.random(in: 50...150) * (1 << min(tries, 5))))
    }
    preconditionFailure("the loop above only ends by returning or throwing")
  }
}
