public import Definitions
import PostgreSQL

/// A table of the operator's, as the database describes it.
public struct WarehouseTable: Sendable {
  public let name: TableName
  public let columns: [String: Column]
  /// Whether it is an ordinary or a partitioned table: what rows can be changed in.
  let isTable: Bool
  /// Without USAGE on its schema no privilege on the table helps.
  let isSchemaUsable: Bool
  let privileges: Set<Privilege>
  /// The share of the heap's pages that an index-only scan need not look into, 0 to 1.
  let visibleShare: Double
  /// The columns that an index begins with.
  let indexedColumns: Set<String>

  /// Its name as SQL text.
  public var sql: String { name.sql }

  public struct Column: Sendable {
    public let name: String
    /// As PostgreSQL writes it: `character varying`.
    public let type: String
    let isNullable: Bool
    let isGenerated: Bool

    public var sql: String { Identifier(name).sql }

    /// How IDs are kept in it; nil if they cannot be.
    public var idKind: IDKind? { IDKind(columnType: type) }
  }

  enum Privilege: String, CaseIterable {
    case select = "SELECT"
    case update = "UPDATE"
    case delete = "DELETE"
  }
}

/// How a column keeps IDs.
public enum IDKind: Sendable, Equatable {
  case integer
  case numeric
  case text

  init?(columnType: String) {
    switch columnType {
    case "bigint", "integer": self = .integer
    case "numeric": self = .numeric
    case "text", "character varying": self = .text
    default: return nil
    }
  }

  /// An expression of another kind, written so that this column's index is used. What is no ID
  /// becomes NULL, which equals nothing, and not an error.
  public func cast(_ expression: String, from other: IDKind) -> String {
    switch (self, other) {
    case (.integer, .integer), (.numeric, .numeric), (.text, .text): expression
    case (.numeric, .integer): "\(expression)::numeric"
    case (.text, .integer), (.text, .numeric): "\(expression)::text"
    case (.integer, .numeric):
      """
      CASE WHEN \(expression) BETWEEN 1 AND \(Int64.max) AND \(expression) = trunc(\(expression)) \
      THEN \(expression)::bigint END
      """
    case (.integer, .text):
      """
      CASE WHEN \(expression) ~ '^[1-9][0-9]{0,18}$' THEN \
      CASE WHEN \(expression)::numeric <= \(Int64.max) THEN \(expression)::bigint END END
      """
    case (.numeric, .text):
      "CASE WHEN \(expression) ~ '^[1-9][0-9]{0,18}$' THEN \(expression)::numeric END"
    }
  }
}

extension TableName {
  /// The name as SQL text, quoted part by part.
  public var sql: String {
    (schema.map { Identifier($0).sql + "." } ?? "") + Identifier(name).sql
  }
}
