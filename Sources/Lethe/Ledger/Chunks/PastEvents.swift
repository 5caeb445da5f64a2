public import PostgreSQL

/// SQL about events that were applied earlier: their traces, and the time before which event records were pruned.
public enum PastEvents {
  /// SQL: the condition that a trace contains an ID.
  public static func contains(_ id: SQL, trace: SQL) -> SQL {
    """
    (numrange(\(trace).first_id, \(trace).last_id, '[]') @> \(id)::numeric
     AND \(position(of: id, in: trace)) IS NOT NULL)
    """
  }

  /// SQL: an ID's position in a trace, from 1. Null if the trace does not contain the ID.
  public static func position(of id: SQL, in trace: SQL) -> SQL {
    """
    lethe.place_in_trace(\(id), \(trace).first_id, \(trace).last_id, \(trace).events, \(trace).distances)
    """
  }

  /// SQL: the time before which event records were pruned, from the chain's records. Null if nothing was pruned.
  /// Records with changed content are ignored.
  public static let prunedThrough: SQL = """
    (SELECT max(substring(content FROM '"through": "([0-9-]{10}T[0-9:.]+Z)"')) FROM lethe.seal
     WHERE kind = 'prune' AND sha256 = sha256(previous || convert_to(content, 'UTF8')))
    """
}
