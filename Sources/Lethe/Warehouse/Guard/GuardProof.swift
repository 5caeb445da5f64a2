import Definitions
public import PostgreSQL
public import Vocabulary

/// Creates a tombstone in a transaction that is rolled back later. Returns false if the ID already has a tombstone.
public typealias ProbeTombstone =
  @Sendable (_ type: JobType, _ id: Int64, _ transaction: Transaction) async throws -> Bool

/// The result of a test of a guard: attempts to insert rows with the ID of a tombstone into the guarded table.
public struct GuardProof: Sendable, Equatable {
  /// The attempts in which the guard did not stop the row: `into shop.p1 through shop.posts by COPY, and …`.
  public internal(set) var leaks: [String] = []
  /// What could not be tried, with the reason.
  public internal(set) var notTried: [String] = []
  /// In how many attempts the guard stopped the row.
  public internal(set) var keptOut = 0
  /// Whether the test ended because a lock was not free.
  public internal(set) var isLocked = false

  public var isProven: Bool { leaks.isEmpty && notTried.isEmpty && keptOut > 0 }
}

extension IngestGuards {
  private static let lockMilliseconds = 1_000
  private static let statementMilliseconds = 10_000

  /// An error that rolls back the transaction of a test.
  private struct RolledBack: Error {
    let proof: GuardProof
  }

  /// Tries to insert a row with the ID of a temporary tombstone into each leaf table of a guarded table:
  /// directly and through each table from the guarded table down to the leaf, by INSERT, ON CONFLICT and COPY.
  /// Everything is rolled back, but the sequences of column defaults advance, and the table's other triggers fire.
  ///
  /// - Throws: `PostgreSQLError` if the connection or one of the test's own queries fails.
  public func prove(
    _ guarding: IngestGuard, tombstone: @escaping ProbeTombstone
  ) async throws -> GuardProof {
    do {
      return try await connection.withTransaction { transaction -> GuardProof in
        try await transaction.runScript(
          """
          SET LOCAL lock_timeout = \(literal: Self.lockMilliseconds);
          SET LOCAL statement_timeout = \(literal: Self.statementMilliseconds)
          """)
        var trial = GuardTrial(
          transaction: transaction, guarding: guarding, tombstone: tombstone)
        try await trial.run()
        throw RolledBack(proof: trial.proof)
      }
    } catch let rolledBack as RolledBack {
      return rolledBack.proof
    }
  }
}

/// Tests a guard in one transaction, with each method on each leaf table.
struct GuardTrial {
  let transaction: Transaction
  let guarding: IngestGuard
  let tombstone: ProbeTombstone
  var proof = GuardProof()
  /// The names of the guarded table, its leaf tables and the tables between them, as in the server's messages.
  private var tree: Set<String> = []
  private var partitioned: Set<String> = []
  /// The session's count of inserted rows, by table. It includes rows of attempts that were rolled back, and it may
  /// include rows that were inserted before the transaction.
  private var inserted: [String: Int] = [:]

  init(transaction: Transaction, guarding: IngestGuard, tombstone: @escaping ProbeTombstone) {
    self.transaction = transaction
    self.guarding = guarding
    self.tombstone = tombstone
  }

  /// A statement that inserts a row.
  enum InsertMethod: String, CaseIterable {
    case insert = "INSERT"
    case ignore = "ON CONFLICT DO NOTHING"
    case upsert = "ON CONFLICT DO UPDATE"
    case copy = "COPY"
  }

  mutating func run() async throws {
    let leaves = try await GuardedLeafTable.all(of: guarding, on: transaction)
    tree = Set(leaves.flatMap { $0.path.map(\.label) })
    partitioned = tree.subtracting(leaves.map(\.label))
    let isCounting = try await transaction.query("SELECT current_setting('track_counts')::boolean")
      .onlyRow(as: Bool.self)
    guard isCounting else {
      proof.notTried.append("track_counts is off, so the proof could not detect inserted rows")
      return
    }
    inserted = try await insertedRows()
    for leaf in leaves {
      try await attempt(leaf)
      if proof.isLocked { return }
    }
  }

  private mutating func attempt(_ leaf: GuardedLeafTable) async throws {
    let (guarding, tombstone) = (guarding, tombstone)
    let row: GuardedLeafTable.Row
    do {
      row = try await inSavepoint { try await leaf.row(guarding, on: $0) }
      let id = row.id
      guard try await inSavepoint({ try await tombstone(guarding.type, id, $0) }) else {
        proof.notTried.append("\(leaf.label): no ID without a tombstone was found")
        return
      }
    } catch let error as GuardedLeafTable.NoRow {
      proof.notTried.append("\(leaf.label): \(error.why)")
      return
    } catch let error as PostgreSQLError where error.state != nil {
      note(error, "\(leaf.label): ")
      return
    }
    for table in leaf.path {
      for method in InsertMethod.allCases {
        try await attempt(method, row, into: table, leaf)
        if proof.isLocked { return }
      }
    }
  }

  private mutating func attempt(
    _ method: InsertMethod, _ row: GuardedLeafTable.Row, into table: GuardedLeafTable.Level,
    _ leaf: GuardedLeafTable
  ) async throws {
    let through = table.label == leaf.label ? "" : " through \(table.label)"
    let what = "into \(leaf.label)\(through) by \(method.rawValue)"
    guard method != .upsert || table.conflictTarget != nil else { return }
    try await transaction.execute("SAVEPOINT attempt")
    do {
      try await insert(row, method, table)
      let tables = try await tablesReached(by: row)
      try await transaction.execute("ROLLBACK TO SAVEPOINT attempt")
      if tables.isEmpty {
        proof.keptOut += 1
      } else {
        proof.leaks.append("\(what), and the row is in \(tables.joined(separator: ", "))")
      }
    } catch let error as PostgreSQLError where error.state != nil {
      try await transaction.execute("ROLLBACK TO SAVEPOINT attempt")
      record(error, what)
    }
  }

  private func insert(
    _ row: GuardedLeafTable.Row, _ method: InsertMethod, _ table: GuardedLeafTable.Level
  ) async throws {
    let target = SQL(trusted: table.sql)
    let insert: SQL = """
      INSERT INTO \(target) (\(row.columns)) OVERRIDING SYSTEM VALUE VALUES (\(row.literals))
      """
    switch method {
    case .insert: try await transaction.runScript(insert)
    case .ignore: try await transaction.runScript(insert + " ON CONFLICT DO NOTHING")
    case .upsert:
      try await transaction.runScript(
        """
        \(insert) ON CONFLICT (\(trusted: table.conflictTarget ?? ""))
        DO UPDATE SET \(identifier: guarding.id) = DEFAULT WHERE false
        """)
    case .copy:
      try await transaction.withCopyIn("COPY \(target) (\(row.columns)) FROM STDIN") {
        try await $0.write(Array(row.copyLine.utf8))
      }
    }
  }

  // MARK: Results

  private func insertedRows() async throws -> [String: Int] {
    let rows = try await transaction.query(
      """
      SELECT schemaname || '.' || relname, n_tup_ins FROM pg_stat_xact_user_tables
      WHERE n_tup_ins > 0 AND relid <> 'lethe.tombstone'::regclass
      """
    ).rows(as: String.self, Int.self)
    return Dictionary(rows, uniquingKeysWith: +)
  }

  /// The tables that contain the row now: tables in `tree`, or another table if a trigger has redirected the row.
  private mutating func tablesReached(by row: GuardedLeafTable.Row) async throws -> [String] {
    let now = try await insertedRows()
    let grown = now.filter { $0.value > inserted[$0.key, default: 0] }.keys.sorted()
    inserted = now
    var tables: [String] = []
    for name in grown {
      var isIn = tree.contains(name)
      if !isIn { isIn = try await holds(row, name) }
      if isIn { tables.append(name) }
    }
    return tables
  }

  /// Whether a table that is not in `tree` contains the ID in a column of the same name.
  private func holds(_ row: GuardedLeafTable.Row, _ name: String) async throws -> Bool {
    let table = try await transaction.query(
      """
      SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = \(guarding.id) AND NOT a.attisdropped
      WHERE n.nspname || '.' || c.relname = \(name) AND c.relkind IN ('r', 'p') LIMIT 1
      """
    ).firstRow(as: String.self)
    guard let table else { return false }
    return try await transaction.query(
      """
      SELECT EXISTS (SELECT FROM \(trusted: table) WHERE \(identifier: guarding.id)::text = \("\(row.id)"))
      """
    ).onlyRow(as: Bool.self)
  }

  /// Records the error of an attempt. PostgreSQL checks constraints after BEFORE triggers, so the guard did not stop a
  /// row that violates a constraint.
  private mutating func record(_ error: PostgreSQLError, _ what: String) {
    let isConstraint =
      error.state?.conditionClass == "23" && !error.isRaised && !error.isWithinFunction
      && error.table.map(tree.contains) == true
      // A partitioned table also reports this class if no partition fits the row. Then the error names no constraint.
      && (error.constraint != nil || error.column != nil
        || error.table.map(partitioned.contains) == false)
    switch error.state?.rawValue {
    case "23L01": proof.keptOut += 1
    // The table does not support this method.
    case "0A000", "42P10": break
    case _ where isConstraint:
      proof.leaks.append("\(what), and only a constraint refused the row")
    default: note(error, "\(what): ")
    }
  }

  private mutating func note(_ error: PostgreSQLError, _ what: String) {
    if error.isRetryableTransaction {
      proof.isLocked = true
      proof.notTried.append("\(what)a lock was not free within 1 s")
    } else {
      proof.notTried.append("\(what)\(error.messageWithoutValues)")
    }
  }

  private func inSavepoint<R: Sendable>(_ body: (Transaction) async throws -> R) async throws -> R {
    try await transaction.execute("SAVEPOINT attempt")
    do {
      let value = try await body(transaction)
      try await transaction.execute("RELEASE SAVEPOINT attempt")
      return value
    } catch {
      try await transaction.execute("ROLLBACK TO SAVEPOINT attempt")
      throw error
    }
  }
}
