public import Failures
public import PostgreSQL

/// Fills the platform's tables with generated data.
///
/// Runs in one transaction, so other sessions see no change before the commit.
public struct Seeding: Sendable {
  private let connection: Connection
  private let plan: SeedPlan

  /// Called repeatedly, with the number of posts written so far.
  public var progressed: @Sendable (_ posts: Int) -> Void = { _ in }

  /// The number of generated rows of each kind.
  public struct Report: Sendable, Equatable {
    public var accounts = 0
    public var accountsByState: [String: Int] = [:]
    public var posts = 0
    public var deleted = 0
    public var bounced = 0
    public var edited = 0
    public var geoRemoved = 0
  }

  public init(_ connection: Connection, _ plan: SeedPlan) {
    self.connection = connection
    self.plan = plan
  }

  /// Generates the rows.
  /// - Parameter isReplacing: whether existing rows are removed.
  /// - Throws: `PlatformNotEmpty`, `PostgreSQLError` or `CancellationError`. Then nothing is changed, unless the
  ///   connection was lost during the COMMIT.
  public func run(isReplacing: Bool) async throws -> Report {
    let report = try await connection.withTransaction { transaction in
      try await transaction.execute("SET LOCAL lock_timeout = '10s'")
      try await transaction.execute("SET LOCAL maintenance_work_mem = '256MB'")
      if !isReplacing { try await requireEmpty(transaction) }
      // COPY FREEZE requires a TRUNCATE in the same transaction.
      try await transaction.execute("TRUNCATE platform.posts, platform.accounts")
      let constraints = try await DroppedIndexes.drop(of: "platform.posts", transaction)
      var report = Report()
      var accounts = Accounts(plan)
      try await fillAccounts(&accounts, transaction, &report)
      try await fillPosts(Posts(plan, by: accounts), transaction, &report)
      try await constraints.rebuild(transaction)
      try await transaction.execute("ANALYZE platform.accounts, platform.posts")
      return report
    }
    return report
  }

  private func requireEmpty(_ transaction: Transaction) async throws {
    let isEmpty = try await transaction.query(
      """
      SELECT NOT EXISTS (SELECT FROM platform.posts) AND NOT EXISTS (SELECT FROM platform.accounts)
      """
    ).onlyRow(as: Bool.self)
    guard isEmpty else { throw PlatformNotEmpty() }
  }

  private func fillAccounts(
    _ accounts: inout Accounts, _ transaction: Transaction, _ report: inout Report
  ) async throws {
    let copy = try await transaction.beginCopyIn(
      """
      COPY platform.accounts (account_id, username, created_at, state, state_changed_at)
      FROM STDIN (FORMAT binary, FREEZE)
      """)
    do {
      var rows = BinaryRows()
      while let account = accounts.next() {
        rows.beginRow(columns: 5)
        rows.append(account.id)
        rows.append(bytes: account.username)
        rows.append(Instant(snowflake: account.id).copyMicroseconds)
        rows.append(text: account.state.rawValue)
        rows.append(account.stateChangedAt?.copyMicroseconds)
        report.accountsByState[account.state.rawValue, default: 0] += 1
        if rows.isFull { try await copy.write(rows.take()) }
      }
      try await copy.write(rows.takeLast())
      report.accounts = try await copy.finish()
    } catch {
      await copy.abandon()
      throw error
    }
    accounts.rankByActivity()
  }

  private func fillPosts(
    _ posts: consuming Posts, _ transaction: Transaction, _ report: inout Report
  ) async throws {
    let copy = try await transaction.beginCopyIn(
      """
      COPY platform.posts
        (post_id, author_id, created_at, deleted_at, bounced_at, edited_at, geo_removed_at)
      FROM STDIN (FORMAT binary, FREEZE)
      """)
    do {
      var rows = BinaryRows()
      var written = 0
      let step = max(plan.posts / 100, 1)
      while let post = posts.next() {
        rows.beginRow(columns: 7)
        rows.append(post.id)
        rows.append(post.authorID)
        rows.append(Instant(snowflake: post.id).copyMicroseconds)
        rows.append(post.deletedAt?.copyMicroseconds)
        rows.append(post.bouncedAt?.copyMicroseconds)
        rows.append(post.editedAt?.copyMicroseconds)
        rows.append(post.geoRemovedAt?.copyMicroseconds)
        report.count(post)
        written += 1
        if written % step == 0 || written == plan.posts { progressed(written) }
        if rows.isFull { try await copy.write(rows.take()) }
      }
      try await copy.write(rows.takeLast())
      report.posts = try await copy.finish()
    } catch {
      await copy.abandon()
      throw error
    }
  }
}

extension Seeding.Report {
  fileprivate mutating func count(_ post: Posts.Post) {
    if post.deletedAt != nil { deleted += 1 }
    if post.bouncedAt != nil { bounced += 1 }
    if post.editedAt != nil { edited += 1 }
    if post.geoRemovedAt != nil { geoRemoved += 1 }
  }
}

/// The platform's tables are not empty.
public struct PlatformNotEmpty: ExplainedError {
  public var message: String { "the platform's tables already contain accounts or posts" }
  public var remedy: String { "add --replace to remove them first" }
  public var disposition: Disposition { .failed }
}

/// A table's keys and indexes. They are dropped before COPY and created again afterwards, because this is much faster
/// than updating them for each row.
private struct DroppedIndexes {
  let statements: [String]

  /// Drops the keys and indexes of a table.
  static func drop(of table: String, _ transaction: Transaction) async throws -> DroppedIndexes {
    // Foreign keys come last, because a foreign key can be created only after the primary key that it references.
    let found = try await transaction.query(
      """
      SELECT pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
             pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
                    pg_get_constraintdef(oid)), contype = 'f'
      FROM pg_constraint WHERE conrelid = \(table)::regclass AND contype IN ('p', 'u', 'f')
      UNION ALL
      SELECT pg_catalog.format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid), false
      FROM pg_index WHERE indrelid = \(table)::regclass
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
      ORDER BY 3, 2
      """
    ).rows(as: String.self, String.self, Bool.self)
    var statements: [String] = []
    for (drop, create, _) in found {
      try await transaction.execute(SQL(trusted: drop))
      statements.append(create)
    }
    return DroppedIndexes(statements: statements)
  }

  func rebuild(_ transaction: Transaction) async throws {
    for statement in statements { try await transaction.execute(SQL(trusted: statement)) }
  }
}
