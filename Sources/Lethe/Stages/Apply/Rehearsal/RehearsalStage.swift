import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// One change, tried on one part of its table in a transaction that is rolled back.
struct RehearsalStage {
  let transaction: Transaction
  let catalog: Catalog
  let events: SyntheticEvents
  let context: BatchContext
  let rehearsed: Rehearsal.Rehearsed
  /// Whether rows can be locked before they are changed. SELECT … FOR UPDATE requires the privilege UPDATE.
  let mayLock: Bool
  /// Whether the server counts the writes to each table: `track_counts` is on.
  let isCounted: Bool

  private var change: Change { rehearsed.change }
  private var table: WarehouseTable { change.target.table }

  /// The largest number of rows of a part that are searched for rows to try.
  private static let rowsLookedAtMax = 10_000
  /// The largest number of rows that this search returns.
  private static let candidatesMax = 20

  /// The largest number of rows that are tried until one can be changed.
  private static let triesMax = 5
  /// The largest number of rows of one ID that are counted before and after the change.
  private static let remainsMax = 1_000

  func rehearse(on part: TablePart, _ findings: inout RehearsalFindings) async throws {
    guard !part.isForeign else {
      findings.skipped(part, "on another server")
      return
    }
    // A DELETE with a cascade is not tried. Without the privilege to read the referencing table, it is unknown
    // which rows have a cascade.
    if change.isDelete,
      let key = table.references.first(where: { !$0.isReadable && !$0.isRestricting })
    {
      findings.skipped(part, "it could cascade to rows of \(key.table), which Lethe may not read")
      return
    }
    var candidates: [Candidate] = []
    do {
      candidates = try await inSavepoint { try await self.candidates(of: part) }
    } catch let error as PostgreSQLError where error.state?.conditionClass == "22" {
      // The condition that a row differs from the new values can fail on the data of a row, for example in a cast. The
      // search is repeated without this condition. `trial` then checks each row with apply's own condition.
      candidates = try await inSavepoint { try await self.candidates(of: part, differing: false) }
    } catch let error as PostgreSQLError where error.state != nil {
      findings.refused(error, on: part)
      return
    }
    try await rehearse(candidates, of: part, &findings)
  }

  /// The result of restoring a row.
  enum Restoration {
    /// The row was restored, or the change has created no hold for it.
    case done
    /// - Parameter mayDependOnTransaction: whether the cause may be that one transaction both hid and restored the row.
    case refused(message: String, remedy: String, mayDependOnTransaction: Bool = false)
    case untried(String)
  }

  /// The result of a change of one row.
  private enum Trial {
    /// Apply's own condition does not match the row.
    case notDue
    /// Another session has locked, changed or deleted the row.
    case locked
    /// The row is unchanged, although no error was raised.
    case kept
    /// The row was changed. `inserted` and `updated` are other tables in which triggers have written rows.
    case done(inserted: [String], updated: [String], restoration: Restoration)
    case refused(PostgreSQLError)
  }

  /// Tries one row after the other until a row is changed. A refusal of only some rows is a warning, because a run
  /// sets these rows' events aside and continues with the other rows, unless the dataset has `atomic: chunk`.
  private func rehearse(
    _ candidates: [Candidate], of part: TablePart, _ findings: inout RehearsalFindings
  ) async throws {
    var refusal: PostgreSQLError?
    var (tries, isLocked, isKept) = (0, false, false)
    for candidate in candidates where tries < Self.triesMax {
      switch try await trial(candidate) {
      case .notDue: continue
      case .locked: isLocked = true
      case .kept:
        tries += 1
        isKept = true
      case .refused(let error):
        tries += 1
        refusal = refusal ?? error
      case .done(let inserted, let updated, let restoration):
        findings.rehearsed(part, copiedTo: inserted, changing: updated, isCounted: isCounted)
        findings.restored(restoration, on: part)
        if let refusal { findings.refused(refusal, on: part, succeededOnAnotherRow: true) }
        return
      }
    }
    if let refusal {
      findings.refused(refusal, on: part)
    } else if isKept {
      findings.kept(part)
    } else {
      findings.skipped(
        part,
        isLocked
          ? "rows locked by others"
          : change.isDelete ? "no unreferenced row" : "no row to change")
    }
  }

  /// Tries the change on one row, in a savepoint, so that a refusal does not affect the next trial.
  private func trial(_ candidate: Candidate) async throws -> Trial {
    do {
      return try await inSavepoint { () -> Trial in
        try await events.add(id: candidate.id, reason: change.reasons[0])
        guard try await isDue(candidate) else { return .notDue }
        guard try await lock(candidate) else { return .locked }
        return try await change(candidate)
      }
    } catch let error as PostgreSQLError where error.state != nil {
      return .refused(error)
    }
  }

  private func inSavepoint<R>(_ body: () async throws -> R) async throws -> R {
    try await transaction.execute("SAVEPOINT lethe_part")
    let result: Result<R, any Error>
    do {
      result = .success(try await body())
    } catch {
      result = .failure(error)
    }
    // If the connection is lost, this statement throws.
    try await transaction.runScript(
      "ROLLBACK TO SAVEPOINT lethe_part; RELEASE SAVEPOINT lethe_part")
    return try result.get()
  }

  private struct Candidate {
    let id: Int64
    let place: BatchContext.RowPlace
  }

  /// The rows that the change would probably change, with the IDs that reach them.
  /// - Parameter differing: whether to return only rows that differ from the values that the change sets.
  private func candidates(
    of part: TablePart, differing: Bool = true
  ) async throws -> [Candidate] {
    let reverseJoin = change.target.reverseJoin
    // With the partition constraint in the query, the planner excludes the other partitions.
    let source: SQL = part.isReadable ? "ONLY \(part.name.sql)" : table.sql
    var place: SQL = part.isReadable ? "" : part.condition.map { " AND (\(trusted: $0))" } ?? ""
    // The dataset exports only the rows of its own table that match its condition.
    if change.target.isOwn, let condition = rehearsed.plan.dataset.condition {
      place += " AND (\(trusted: condition)\n)"
    }
    let oid: SQL = "\(part.oid)"
    var conditions =
      reverseJoin.conditions + ["\(reverseJoin.id) BETWEEN 1 AND \(literal: Int64.max)"]
    if differing, let condition = change.kind.needsChange(change.row) {
      conditions.append(condition)
    }
    conditions += (change.isDelete ? table.references : []).filter(\.isReadable).map {
      "NOT EXISTS (SELECT FROM \($0.table.sql) AS r WHERE \($0.equality))" as SQL
    }
    let rows = try await transaction.run(
      """
      SELECT \(reverseJoin.id), t.lethe_place
      FROM (SELECT w.ctid::text AS lethe_place, w.* FROM \(source) AS w
            WHERE w.tableoid = \(oid)::bigint::oid\(place)
            LIMIT \(literal: Self.rowsLookedAtMax)) AS t\(reverseJoin.from)
      WHERE \(conditions.joined(separator: " AND ")) LIMIT \(literal: Self.candidatesMax)
      """
    ).rows(as: Int64.self, String.self)
    return rows.map {
      Candidate(id: $0.0, place: BatchContext.RowPlace(part: part.oid, place: $0.1))
    }
  }

  private func range(_ candidate: Candidate) -> EventRange {
    EventRange(
      chunkID: events.chunkID, after: candidate.id - 1, through: candidate.id, mayRestore: false)
  }

  /// The context in which a statement changes only this row.
  private func context(of candidate: Candidate) -> BatchContext {
    var context = context
    context.onlyRow = candidate.place
    return context
  }

  /// Whether apply's own condition matches the row.
  private func isDue(_ candidate: Candidate) async throws -> Bool {
    let locations = change.locations(of: range(candidate), in: context(of: candidate))
    return try await transaction.run(
      "SELECT EXISTS (SELECT FROM (\(locations)) AS location)"
    ).onlyRow(as: Bool.self)
  }

  private func lock(_ candidate: Candidate) async throws -> Bool {
    guard mayLock else { return true }
    return try await transaction.query(
      """
      SELECT FROM \(table.sql) AS t WHERE t.tableoid = \(candidate.place.part)::bigint::oid
             AND t.ctid = \(candidate.place.place)::tid
      FOR \(change.isDelete ? "UPDATE" as SQL : "NO KEY UPDATE") SKIP LOCKED
      """
    ).count > 0
  }

  private func change(_ candidate: Candidate) async throws -> Trial {
    let range = range(candidate)
    let statement = change.statement(for: range, in: context(of: candidate))
    let (before, left) = (try await written(), try await remaining(range))
    let newestHold = try await transaction.query(
      "SELECT coalesce(max(hold_id), 0) FROM lethe.hold"
    ).onlyRow(as: Int64.self)
    let changed = try await transaction.run(statement).rowsAffected
    try await transaction.execute("SET CONSTRAINTS ALL IMMEDIATE")
    // Other rows of the same ID may remain, but fewer than before.
    let leftNow = try await remaining(range)
    if changed == 0 || (leftNow >= left && left < Self.remainsMax) { return .kept }
    let after = try await written()
    func grown(_ count: KeyPath<Written, Int64>) -> [String] {
      after.filter { $0.value[keyPath: count] > before[$0.key]?[keyPath: count] ?? 0 }.keys.sorted()
    }
    return .done(
      inserted: grown(\.inserted), updated: grown(\.updated),
      restoration: try await restoration(candidate, range, left: left, after: newestHold))
  }

  /// Restores the rows that the change has hidden, as if an answer released their ID, and checks that they have their
  /// former values.
  /// - Parameter left: how many rows of the ID were not hidden before the change.
  private func restoration(
    _ candidate: Candidate, _ range: EventRange, left: Int, after newestHold: Int64
  ) async throws -> Restoration {
    guard change.keepsHolds else { return .done }
    try await transaction.execute(
      """
      INSERT INTO lethe_ending (hold_id, id, reason)
      SELECT hold_id, id, 'clean' FROM lethe.holder
      WHERE hold_id > \(newestHold) AND type = \(context.origin.typeSQL)
        AND id = \(candidate.id)
      """)
    let restoration = RowRestoration(
      transaction: transaction, catalog: catalog, type: context.origin.type, versions: nil,
      protections: [],
      chunk: nil)
    do {
      try await restoration.findRestorableColumns()
      try await restoration.restoreRows()
      try await transaction.execute("SET CONSTRAINTS ALL IMMEDIATE")
      let closed = try await transaction.query(
        "SELECT outcome FROM lethe_due WHERE outcome IS DISTINCT FROM 'restored' LIMIT 1"
      ).firstRow(as: String?.self)
      let isDue = try await transaction.query("SELECT EXISTS (SELECT FROM lethe_due)")
        .onlyRow(as: Bool.self)
      try await restoration.endHolds(jobID: nil)
      guard isDue else { return .done }
      let leftNow = try await remaining(range)
      if closed == nil, leftNow >= left { return .done }
      return .refused(
        message: "it still has the values that the change set, or its key cannot be found any more",
        remedy: "change the trigger, rule or policy that undoes or skips the change")
    } catch let error as ApplyError {
      return error.isTimeout
        ? .untried("it takes longer than \(Rehearsal.statementTimeoutSeconds) s")
        : .refused(
          message: error.message,
          remedy: rehearsed.triggers.isEmpty
            ? error.remedy.replacing(ApplyError.rolledBackNote, with: "")
            : "change the trigger to allow Lethe's changes",
          mayDependOnTransaction: !rehearsed.triggers.isEmpty && error.mayDependOnTransaction)
    } catch let error as PostgreSQLError where error.state != nil {
      switch error.state {
      case .queryCanceled?:
        return .untried("it takes longer than \(Rehearsal.statementTimeoutSeconds) s")
      case .lockNotAvailable?, .deadlockDetected?, .serializationFailure?:
        return .untried("rows locked by others")
      default:
        return .refused(
          message: error.messageWithoutValues, remedy: "change the table so that it accepts the row"
        )
      }
    }
  }

  private func remaining(_ range: EventRange) async throws -> Int {
    let query = change.unchangedRows(of: range, in: context, rowsMax: Self.remainsMax)
    return try await transaction.run(query).count
  }

  private struct Written {
    let inserted: Int64
    let updated: Int64
  }

  /// The number of rows that this transaction has written so far, by table. The ledger and the changed table
  /// are left out. Inserts and updates are counted separately.
  private func written() async throws -> [String: Written] {
    let rows = try await transaction.query(
      """
      WITH RECURSIVE tree AS (
        SELECT coalesce(pg_partition_root(\(table.quoted)::regclass), \(table.quoted)::regclass)::oid AS oid
        UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
      )
      SELECT schemaname, relname, n_tup_ins, n_tup_upd FROM pg_stat_xact_user_tables
      WHERE n_tup_ins + n_tup_upd > 0 AND schemaname NOT IN ('lethe', 'lethe_migrations')
        AND schemaname NOT LIKE 'pg\\_%' AND relid NOT IN (SELECT oid FROM tree)
      """
    ).rows(as: String.self, String.self, Int64.self, Int64.self)
    return Dictionary(
      rows.map {
        ("\(TableName(schema: $0.0, name: $0.1))", Written(inserted: $0.2, updated: $0.3))
      }, uniquingKeysWith: { first, _ in first })
  }
}
