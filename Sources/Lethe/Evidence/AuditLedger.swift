public import PostgreSQL

/// Reads the ledger as evidence: what it knows about one ID (`trail`), the event records of a period
/// (`exportEvents`), and whether it still says what was written (`verify`). `prune` is the only way in which
/// records are deleted from it.
public struct AuditLedger: Sendable {
  let connection: Connection

  public init(connection: Connection) {
    self.connection = connection
  }

  /// SQL: a time as ISO 8601 in UTC, to the microsecond. The text sorts in the same order as the time.
  static func utc(_ expression: SQL) -> SQL {
    .utc(expression, .microseconds)
  }
}
