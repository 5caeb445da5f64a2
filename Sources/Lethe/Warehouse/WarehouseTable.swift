public import Definitions
public import PostgreSQL

/// A table of the operator's, as the database describes it.
public struct WarehouseTable: Sendable {
  /// As the definition has it.
  public let name: TableName
  /// The same with its schema.
  public let resolvedName: TableName
  public let columns: [String: Column]
  let kind: Kind
  /// Without USAGE on its schema no privilege on the table helps.
  let isSchemaUsable: Bool
  let privileges: Set<Privilege>
  /// What a row-level security policy hides rows from.
  let rowsHiddenFrom: Set<Privilege>
  /// Whether rows may be there that this role does not see.
  public var mayHideRows: Bool { rowsHiddenFrom.contains(.select) }
  /// What a rule turns into something else.
  let rewritten: Set<Privilege>
  /// The share of the heap's pages that an index-only scan need not look into, 0 to 1.
  let visibleShare: Double
  /// The columns that an index begins with.
  let indexedColumns: Set<String>
  /// The columns that hold no value twice, by an index of their own.
  let uniqueColumns: Set<String>
  /// In the key's order; empty without a primary key.
  public let primaryKey: [String]
  /// The columns that it or a part of it is partitioned by, expressions apart.
  let partitionColumns: Set<String>
  /// The foreign keys that point at it, or at a part of it.
  public let references: [ForeignKey]
  /// The table that holds name its rows by. A row that is reached through a partition and through the
  /// table above it has one name.
  public let holdTable: TableName
  /// The columns that tell the rows of `holdTable` apart; empty if nothing does.
  public let holdKey: [Column]
  let distrust: VersionDistrust?
  /// Whether other tables inherit from it, partitions apart.
  let hasChildren: Bool

  /// Whether the version of a row (`xmin`) tells which transaction wrote it.
  public var hasTrustedVersions: Bool { distrust == nil }

  public var sql: SQL { resolvedName.sql }
  /// Its name for messages and remedies, as SQL has it.
  public var quoted: String { resolvedName.quoted }

  public struct Column: Sendable {
    public let name: String
    /// As PostgreSQL writes it: `character varying`.
    public let type: String
    /// The type that a domain stands for, else the same.
    let baseType: String
    /// With the length or precision: `character varying(20)`.
    let declaredType: String
    let isNullable: Bool
    let isGenerated: Bool
    /// Whether UPDATE is granted, on it or on the table.
    let isUpdatable: Bool
    /// Whether times are in it or, as in an array or a range, within it.
    let holdsTimes: Bool
    /// Of its type; nil for PostgreSQL's own.
    let typeSchema: String?

    public var sql: SQL { "\(identifier: name)" }
    var quoted: String { Identifier(name).quoted }
    /// Its type, for a cast.
    public var typeSQL: SQL { SQL(trusted: type) }

    /// Whether it holds a point in time: what `now()` and `current_date` can be given to.
    public var isTime: Bool {
      ["timestamp with time zone", "timestamp without time zone", "date"].contains(baseType)
    }

    var isText: Bool {
      ["text", "character varying", "bpchar", "name", "citext"].contains(baseType)
    }

    public var isJSON: Bool { baseType == "jsonb" || baseType == "json" }

    /// Whether PostgreSQL's `=` tells two values of the type apart. The geometric types have none, or one
    /// that compares areas; values of such types are compared by their text.
    public var hasEquality: Bool {
      ![
        "json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle",
      ].contains(baseType)
    }

    /// How IDs are kept in it; nil if they cannot be.
    public var idKind: IDKind? { IDKind(columnType: baseType) }
  }

  enum Kind: String {
    case table = "r"
    case partitioned = "p"
    case view = "v"
    case materializedView = "m"
    case foreignTable = "f"
    case other

    /// Whether rows can be changed in it by what Lethe does.
    var holdsRows: Bool { self == .table || self == .partitioned }
  }

  /// A foreign key that points at a table.
  public struct ForeignKey: Sendable, Equatable {
    public let constraint: String
    /// The table whose rows refer.
    public let table: TableName
    /// The tables that it is a part of: a row of it is a row of theirs.
    let wholes: [TableName]
    public let columns: [String]
    /// The columns referred to, in the same order.
    public let referencedColumns: [String]
    /// Whether a row that is referred to cannot be deleted; else the reference goes or is emptied with
    /// it.
    public let isRestricting: Bool
    /// Whether rows go with the row that they refer to.
    let isCascading: Bool
    /// Whether the rows that refer can be looked at.
    public let isReadable: Bool
    /// Whether an index finds the rows that refer to one.
    let isIndexed: Bool
    /// Whether the last column is a period, which refers to what it overlaps.
    public let isOfPeriods: Bool

    /// Whether a change of the table's rows can be one of the rows that refer. The catalog always has the
    /// schema; a definition may leave it out.
    public func refers(from declared: TableName) -> Bool {
      ([table] + wholes).contains {
        $0.name == declared.name && (declared.schema == nil || $0.schema == declared.schema)
      }
    }
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
  public func cast(_ expression: SQL, from other: IDKind) -> SQL {
    switch (self, other) {
    case (.integer, .integer), (.numeric, .numeric), (.text, .text): expression
    case (.numeric, .integer): "\(expression)::numeric"
    case (.text, .integer), (.text, .numeric): "\(expression)::text"
    case (.integer, .numeric):
      """
      CASE WHEN \(expression) BETWEEN 1 AND \(literal: Int64.max) AND \(expression) = trunc(\(expression)) \
      THEN \(expression)::bigint END
      """
    case (.integer, .text):
      """
      CASE WHEN \(Self.isNumber(expression)) THEN \
      CASE WHEN \(expression)::numeric <= \(literal: Int64.max) THEN \(expression)::bigint END END
      """
    case (.numeric, .text):
      "CASE WHEN \(Self.isNumber(expression)) THEN \(expression)::numeric END"
    }
  }

  /// The condition that a text is the number of an ID, whatever its collation: a nondeterministic one
  /// takes no patterns.
  public static func isNumber(_ text: SQL) -> SQL {
    "(\(text)) COLLATE \"C\" ~ '^[1-9][0-9]{0,18}$'"
  }
}

extension TableName {
  public var sql: SQL { SQL(trusted: quoted) }

  /// The name as SQL text, quoted part by part.
  public var quoted: String {
    (schema.map { Identifier($0).quoted + "." } ?? "") + Identifier(name).quoted
  }
}
