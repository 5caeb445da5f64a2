public import PostgreSQL

/// SQL about events that were applied: what traces tell of them, and which records are gone.
public enum PastEvents {
  /// SQL: the condition that a trace is of an ID.
  public static func holds(_ id: SQL, trace: SQL) -> SQL {
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
  public static let prunedThrough: SQL = """
    (SELECT max(substring(content FROM '"through": "([0-9-]{10}T[0-9:.]+Z)"')) FROM lethe.seal
     WHERE kind = 'prune' AND sha256 = sha256(previous || convert_to(content, 'UTF8')))
    """
}
