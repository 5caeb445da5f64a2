public import PostgreSQL
public import Vocabulary

/// How old records must be to be pruned.
public enum RecordAge: Sendable, Hashable {
  case months(Int)
  case days(Int)
  /// All records from before this time.
  case before(Timestamp)
}

extension RecordAge {
  /// SQL: the time before which records are pruned.
  public var cutoff: SQL {
    switch self {
    case .months(let count):
      "now() - make_interval(months => \(count)::integer)"
    case .days(let count): "now() - make_interval(days => \(count)::integer)"
    case .before(let time): time.sql
    }
  }
}
