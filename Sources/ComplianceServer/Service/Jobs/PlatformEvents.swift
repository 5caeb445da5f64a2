internal import PostgreSQL

/// The reason why the platform requires an action on an ID. A post can have several reasons. The lowest raw value takes
/// precedence.
enum Verdict: Int32, Sendable {
  case deleted = 1
  case bounced = 2
  case authorDeleted = 10
  case authorSuspended = 11
  case authorDeactivated = 12
  case authorProtected = 13
  case edited = 20
  case geoRemoved = 30
}

/// An ID, its verdict, and the time at which the verdict began to apply. Times are microseconds since 2000-01-01.
struct PlatformEvent {
  let id: Int64
  let createdAt: Int64
  let verdict: Verdict
  let since: Int64
}

/// The query that derives compliance events from the platform's state. No other code does this.
///
/// The database sends only the rows that can have an event, sorted by ID, in COPY's binary format. The service
/// itself merges these rows with the submitted IDs and formats the result lines, because PostgreSQL would need several
/// times as long.
struct PlatformEvents {
  let type: JobType
  /// Whether an edit of a post is an event.
  let knowsEdits: Bool

  /// The IDs whose events are read.
  enum IDSelection {
    /// A list of IDs that is short enough to look up each one.
    case ids([Int64])
    /// All IDs of a range.
    case range(ClosedRange<Int64>)
  }

  /// A `COPY` statement for (id, created_at, verdict, since), sorted by ID. A post has up to two consecutive rows: one
  /// for its own verdict, one for its author's.
  func copySQL(_ selection: IDSelection) -> SQL {
    switch type {
    case .tweets:
      """
      COPY (
        SELECT * FROM (
          SELECT post.post_id AS id, post.created_at, \(ownVerdictSQL)
          FROM platform.posts post
          WHERE (deleted_at IS NOT NULL OR bounced_at IS NOT NULL OR edited_at IS NOT NULL
              OR geo_removed_at IS NOT NULL) AND \(Self.condition("post.post_id", selection))
          UNION ALL
          SELECT post.post_id, post.created_at, \(Self.stateVerdictSQL), author.state_changed_at
          FROM platform.accounts author
          JOIN platform.posts post ON post.author_id = author.account_id
          WHERE author.state <> 'active' AND \(Self.condition("post.post_id", selection))
        ) event ORDER BY id
      ) TO STDOUT (FORMAT binary)
      """
    case .users:
      """
      COPY (
        SELECT account_id, created_at, \(Self.stateVerdictSQL), state_changed_at
        FROM platform.accounts author
        WHERE state <> 'active' AND \(Self.condition("account_id", selection))
        ORDER BY account_id
      ) TO STDOUT (FORMAT binary)
      """
    }
  }

  /// Two columns: a post's own verdict (not its author's), and the time at which it began to apply.
  private var ownVerdictSQL: SQL {
    if knowsEdits {
      """
      CASE WHEN deleted_at IS NOT NULL THEN \(literal: Verdict.deleted.rawValue)
           WHEN bounced_at IS NOT NULL THEN \(literal: Verdict.bounced.rawValue)
           WHEN edited_at IS NOT NULL THEN \(literal: Verdict.edited.rawValue)
           ELSE \(literal: Verdict.geoRemoved.rawValue) END,
      coalesce(deleted_at, bounced_at, edited_at, geo_removed_at)
      """
    } else {
      """
      CASE WHEN deleted_at IS NOT NULL THEN \(literal: Verdict.deleted.rawValue)
           WHEN bounced_at IS NOT NULL THEN \(literal: Verdict.bounced.rawValue)
           WHEN geo_removed_at IS NOT NULL THEN \(literal: Verdict.geoRemoved.rawValue) ELSE 0 END,
      coalesce(deleted_at, bounced_at, geo_removed_at, created_at)
      """
    }
  }

  private static let stateVerdictSQL: SQL = """
    CASE author.state WHEN 'deleted' THEN \(literal: Verdict.authorDeleted.rawValue)
                      WHEN 'suspended' THEN \(literal: Verdict.authorSuspended.rawValue)
                      WHEN 'deactivated' THEN \(literal: Verdict.authorDeactivated.rawValue)
                      WHEN 'protected' THEN \(literal: Verdict.authorProtected.rawValue) END
    """

  private static func condition(_ column: SQL, _ selection: IDSelection) -> SQL {
    switch selection {
    case .ids(let ids):
      "\(column) = ANY (\(literal: "{\(ids.map(String.init).joined(separator: ","))}")::bigint[])"
    case .range(let range):
      "\(column) BETWEEN \(literal: range.lowerBound) AND \(literal: range.upperBound)"
    }
  }
}

/// Reads the rows of `PlatformEvents.copySQL` from COPY's blocks.
struct PlatformEventRows {
  private var isFirst = true

  /// The size of a row with four columns of fixed width: the number of columns, then the length and the value of each.
  private static let rowBytes = 2 + (4 + 8) + (4 + 8) + (4 + 4) + (4 + 8)
  private static let headerBytes = 19

  /// Calls `body` with each event of a block of whole rows.
  mutating func read(_ block: [UInt8], _ body: (PlatformEvent) throws -> Void) throws {
    try block.withUnsafeBytes { bytes in
      var position = isFirst ? Self.headerBytes : 0
      isFirst = false
      while position + 2 <= bytes.count {
        let columns = Int16(
          bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: Int16.self))
        if columns == -1 { return }
        guard columns == 4, position + Self.rowBytes <= bytes.count else { throw UnexpectedRow() }
        func value(at offset: Int) -> Int64 {
          Int64(bigEndian: bytes.loadUnaligned(fromByteOffset: position + offset, as: Int64.self))
        }
        let raw = Int32(
          bigEndian: bytes.loadUnaligned(fromByteOffset: position + 30, as: Int32.self))
        if let verdict = Verdict(rawValue: raw) {
          try body(
            PlatformEvent(
              id: value(at: 6), createdAt: value(at: 18), verdict: verdict, since: value(at: 38)))
        }
        position += Self.rowBytes
      }
    }
  }

  /// The columns of the platform's tables have unexpected types.
  struct UnexpectedRow: Error {}
}
