public import PostgreSQL

/// The ledger read as evidence: what is known of one ID (`trail`), the event records of a time
/// (`exportEvents`), and whether what it says is still what was written (`verify`); and the one way in
/// which records leave it (`prune`).
public struct AuditLedger: Sendable {
  let connection: Connection

  public init(connection: Connection) {
    self.connection = connection
  }

  /// SQL: a time as ISO 8601 in UTC, to the microsecond, so that its text sorts as it does.
  static func utc(_ expression: SQL) -> SQL {
    .utc(expression, .microseconds)
  }
}
