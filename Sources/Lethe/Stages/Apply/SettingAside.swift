import CrashPoints
import Definitions
import Ledger
import Logging
import PostgreSQL
import Warehouse

/// Finds each event that the warehouse refuses, and sets these events aside, so that all others can be applied.
extension ApplyStage {
  /// The maximum number of searches for the refused events of one range. Another search helps if another session has
  /// changed the rows in the meantime. No search helps if events are refused only together.
  private static let searchesMax = 3

  // MARK: Before the first batch

  /// Sets aside events that delete rows to which other rows refer. Rows of these events may refer to rows of
  /// other events, so the search repeats until it finds none.
  ///
  /// - Throws: `ApplyError` if there are too many such events, or any in a chunk that is applied in one transaction.
  func setAsideReferencedEvents(_ work: Work) async throws {
    let check = ReferenceCheck(
      connection: connection, chunk: work.chunk, context: work.context, plan: work.plan)
    while true {
      let found = try await check.refused(atMost: ChunkLedger.refusalsMax + 1)
      guard let first = found.first else { return }
      guard work.plan.dataset.batch != nil else { throw Self.error(first, of: work.chunk) }
      try await requireFewRefusals(for: found, work)
      try await retrying(work.chunk) {
        try await connection.withTransaction(recording: .eventsSetAside) { transaction in
          try await ledger.eventsRefused(found, of: work.chunk, on: transaction)
        }
      }
      report(found, work)
    }
  }

  private static func error(_ refusal: ChunkLedger.Refusal, of chunk: Chunk) -> ApplyError {
    ApplyError(
      chunk, message: "the event of ID \(refusal.id): \(refusal.why)",
      remedy: refusal.remedy)
  }

  private func requireFewRefusals(for refusals: [ChunkLedger.Refusal], _ work: Work) async throws {
    let open = try await ledger.openRefusals(of: work.chunk)
    guard open + refusals.count > ChunkLedger.refusalsMax, let last = refusals.last else { return }
    throw ApplyError(
      work.chunk,
      message: """
        more than \(ChunkLedger.refusalsMax) of its events are refused, such as \
        the event of ID \(last.id): \(last.why)
        """, remedy: last.remedy)
  }

  // MARK: In a batch

  /// Called after a range of events was refused. Finds the events that cause the refusal. Then one transaction sets
  /// them aside and applies the others.
  ///
  /// - Returns: whether the chunk's position is now at the end of the range.
  func applyOthers(
    of range: EventRange, after refusal: ApplyError, _ work: inout Work
  ) async throws -> Bool {
    var refusal = refusal
    var formerIDs: Set<Int64>?
    for _ in 1...Self.searchesMax {
      let refused: [ChunkLedger.Refusal]
      do {
        refused = try await refusedEvents(in: range, after: refusal, work, throwingJoint: true)
      } catch is RefusedTogether {
        if try await makeBatchesSmaller(than: range, &work) { return false }
        // They must be in one transaction. So each of them counts as refused that cannot be applied with the later ones.
        refused = try await refusedEvents(in: range, after: refusal, work)
      }
      do {
        let isRecorded = try await setAside(refused, applying: range, &work)
        report(refused, work)
        return isRecorded
      } catch {
        guard let another = ApplyError(refusing: work.chunk, error), !another.isTimeout
        else { throw error }
        refusal = another
        // The search finds nothing more, so the other events can be applied, but not all of them in one transaction, for
        // example because a trigger writes the same key for each of them. So the next batches are smaller.
        let ids = Set(refused.map(\.id))
        if ids == formerIDs, try await makeBatchesSmaller(than: range, &work) { return false }
        formerIDs = ids
      }
    }
    throw refusal
  }

  /// Lets the next batches have at most half as many events as the range.
  /// - Returns: false if they cannot become smaller.
  private func makeBatchesSmaller(than range: EventRange, _ work: inout Work) async throws -> Bool {
    let events = try await ledger.events(
      of: work.chunk, after: range.after, through: range.through, on: connection)
    guard let smaller = work.cap.halve(refusedEvents: events) else { return false }
    work.eventsMax = smaller
    return true
  }

  private func setAside(
    _ refused: [ChunkLedger.Refusal], applying range: EventRange, _ work: inout Work
  ) async throws -> Bool {
    let chunk = work.chunk
    return try await transaction(&work, recording: .refusedEventsSetAside, isRecorded: { $0 }) {
      batch -> Bool in
      try await batch.lockTables()
      try await ledger.eventsRefused(refused, of: chunk, on: batch.transaction)
      let isLeft = try await ledger.hasEvents(
        of: chunk, after: range.after, through: range.through, on: batch.transaction)
      if isLeft { try await batch.apply(range) }
      return isLeft
    }
  }

  /// Logs one message for each cause, because one trigger may refuse many events.
  private func report(_ refused: [ChunkLedger.Refusal], _ work: Work) {
    let namedMax = 5
    for (_, alike) in Dictionary(grouping: refused, by: { [$0.why, $0.remedy] }) {
      let ids = alike.prefix(namedMax).map { "\($0.id)" }.joined(separator: ", ")
      let left = alike.count - namedMax
      let more = left > 0 ? " and \(left) more (see lethe status)" : ""
      let events =
        alike.count == 1 ? "the event of ID \(ids) is" : "the events of IDs \(ids)\(more) are"
      logger.error(
        """
        \(work.chunk.label): \(events) refused and set aside: \(alike[0].why)
          remedy: \(alike[0].remedy)
        """, metadata: work.chunk.metadata("apply"))
    }
  }

  // MARK: Finding the cause

  /// The error that an event of a range is refused only together with other events of the range.
  private struct RefusedTogether: Error {}

  /// An error that rolls back a transaction that was only a test.
  private struct RolledBack: Error {}

  /// Finds the refused events of a range. Tries smaller and smaller parts of the range, the last part first,
  /// each in a transaction that is rolled back. The last part comes first because a row can only be deleted
  /// after the rows of later events that refer to it.
  ///
  /// - Throws: `ApplyError` if there are too many refused events. With `throwingJoint`, `RefusedTogether`.
  private func refusedEvents(
    in range: EventRange, after refusal: ApplyError, _ work: Work, throwingJoint: Bool = false
  ) async throws -> [ChunkLedger.Refusal] {
    var refused: [ChunkLedger.Refusal] = []
    let changes = work.plan.changes
    let hasCrossReferences = changes.indices.contains {
      changes[$0].isDelete && !work.plan.crossing(at: $0).isEmpty
    }
    var known: ApplyError? = refusal
    var parts = [range]
    while let part = parts.popLast() {
      let middle =
        work.isOversize
        ? nil
        : try await ledger.middle(
          of: work.chunk, after: part.after, through: part.through, on: connection)
      var trial = part
      if hasCrossReferences { trial.through = range.through }
      let found: ApplyError? =
        if let known { known } else {
          try await self.refusal(
            of: trial, without: refused.map(\.id), isOne: middle == nil, work)
        }
      known = nil
      guard let found else { continue }
      if throwingJoint, middle == nil, hasCrossReferences, !work.isOversize,
        try await canBeApplied(part, without: refused.map(\.id), work)
      {
        throw RefusedTogether()
      }
      if let middle {
        parts += [part.from(part.after, through: middle), part.from(middle, through: part.through)]
      } else {
        refused.append(
          .init(
            id: part.through, why: found.message, remedy: found.remedy))
        try await requireFewRefusals(for: refused, work)
      }
    }
    return refused
  }

  /// Whether one event can be applied with the events that must be in the same transaction.
  private func canBeApplied(
    _ part: EventRange, without refused: [Int64], _ work: Work
  ) async throws -> Bool {
    let closed = try await CrossReferences(
      connection: connection, context: work.context, plan: work.plan
    ).closed(part, of: work.chunk)
    return try await refusal(of: closed, without: refused, isOne: true, work) == nil
  }

  /// Why the events of a range cannot be applied. Nil if they can be applied.
  /// - Parameters:
  ///   - refused: the events that are left out.
  ///   - isOne: whether a refusal concerns only one event, because the others of the range can be applied or are left
  ///     out. If not, the transaction is not retried after a failure that a concurrent writer might have caused.
  private func refusal(
    of range: EventRange, without refused: [Int64], isOne: Bool, _ work: Work
  ) async throws -> ApplyError? {
    do {
      return try await retrying(
        work.chunk, triesMaxWithConcurrentWriter: isOne ? Self.triesMaxWithConcurrentWriter : 1
      ) {
        try await connection.withTransaction { transaction -> ApplyError? in
          let batch = batch(work, transaction)
          try await batch.lockTables()
          try await ledger.leaveOut(refused, of: work.chunk, on: transaction)
          try await ledger.setPosition(work.chunk, after: range.after, on: transaction)
          try await batch.apply(range)
          throw RolledBack()
        }
      }
    } catch is RolledBack {
      return nil
    } catch {
      guard let refusal = ApplyError(refusing: work.chunk, error), !refusal.isTimeout
      else { throw error }
      return refusal
    }
  }
}
