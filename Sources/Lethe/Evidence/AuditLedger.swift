public import PostgreSQL

/// Reads the ledger as evidence. `trail` returns everything about one ID, `exportEvents` streams the event records of a
/// period, and `verify` checks whether the ledger was changed. Only `prune` deletes event records.
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
