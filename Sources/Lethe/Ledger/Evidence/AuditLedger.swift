public import PostgreSQL

/// The ledger read as evidence: what is known of one ID (`trail`), the event records of a time
/// (`exportEvents`), and whether what it says is still what was written (`verify`); and the one way in
/// which records leave it (`prune`).
public struct AuditLedger: Sendable {
  let connection: Connection

  public init(connection: Connection) {
    self.connection = connection
  }

  /// What takes wrong tombstones back, and leaves evidence of it.
  public var tombstoneRepair: TombstoneRepair { TombstoneRepair(connection: connection) }

  /// SQL: a time as ISO 8601 in UTC, to the microsecond, so that its text sorts as it does.
  static func utc(_ expression: SQL) -> SQL {
    .utc(expression, .microseconds)
  }

  /// SQL: the condition that a trace is of an ID.
  static func holds(_ id: SQL, trace: SQL) -> SQL {
    """
    (numrange(\(trace).first_id, \(trace).last_id, '[]') @> \(id)::numeric
     AND \(place(of: id, in: trace)) IS NOT NULL)
    """
  }

  /// SQL: an ID's place in a trace, from 1; null if it is not in it.
  public static func place(of id: SQL, in trace: SQL) -> SQL {
    """
    lethe.place_in_trace(\(id), \(trace).first_id, \(trace).last_id, \(trace).events, \(trace).distances)
    """
  }

  /// SQL: the time before which event records were pruned, as the chain's records say; null if never.
  /// Only a record whose content is what was sealed counts.
  static let prunedThrough: SQL = """
    (SELECT max(substring(content FROM '"through": "([0-9-]{10}T[0-9:.]+Z)"')) FROM lethe.seal
     WHERE kind = 'prune' AND sha256 = sha256(previous || convert_to(content, 'UTF8')))
    """
}
