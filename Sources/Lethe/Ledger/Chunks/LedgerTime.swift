public import PostgreSQL
public import Vocabulary

extension Timestamp {
  /// SQL: the time as an expression without parameters, because COPY does not accept parameters.
  public var sql: SQL {
    """
    (timestamptz '2000-01-01 00:00:00+00' + \(literal: microsecondsSince2000) * interval '1 microsecond')
    """
  }
}
