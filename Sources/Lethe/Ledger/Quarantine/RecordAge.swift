public import PostgreSQL
public import Vocabulary

/// The age from which on records are pruned.
public enum RecordAge: Sendable, Hashable {
  case months(Int)
  case days(Int)
  /// Everything that was applied before this time.
  case before(Timestamp)
}

extension RecordAge {
  /// The time before which a record is that old.
  public var cutoff: SQL {
    switch self {
    case .months(let count):
      "now() - make_interval(months => \(count)::integer)"
    case .days(let count): "now() - make_interval(days => \(count)::integer)"
    case .before(let time): time.sql
    }
  }
}
