/// A value bound to `$1`, `$2`, … of a statement.
public enum Parameter: Sendable {
  case null
  case integer(Int64)
  case double(Double)
  case bool(Bool)
  case text(String)
  /// A text for people, such as a note or an API's message. Characters that the database's encoding might not support
  /// are sent as `\u{…}`.
  case prose(String)
  /// Sent as binary `bytea`.
  case bytes([UInt8])
  /// An array literal; cast it in the statement: `$1::bigint[]`.
  case integers([Int64])
  /// An array literal; cast it in the statement: `$1::text[]`.
  case texts([String])
  /// An array literal of texts for people; cast it in the statement: `$1::text[]`.
  case proses([String])

  public init(_ value: (some BinaryInteger)?) {
    self = value.map { .integer(Int64($0)) } ?? .null
  }

  public init(_ value: String?) {
    self = value.map { .text($0) } ?? .null
  }

  public init(prose value: String?) {
    self = value.map { .prose($0) } ?? .null
  }
}

extension Parameter: ExpressibleByIntegerLiteral {
  public init(integerLiteral value: Int64) { self = .integer(value) }
}

extension Parameter: ExpressibleByStringLiteral {
  public init(stringLiteral value: String) { self = .text(value) }
}

extension Parameter: ExpressibleByBooleanLiteral {
  public init(booleanLiteral value: Bool) { self = .bool(value) }
}

extension Parameter: ExpressibleByNilLiteral {
  public init(nilLiteral: ()) { self = .null }
}
