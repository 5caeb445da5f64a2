public import Definitions
public import PostgreSQL

/// A table of the operator, as the database describes it.
public struct WarehouseTable: Sendable {
  /// The name that was looked up, such as the one in the definition.
  public let name: TableName
  /// The name with its schema.
  public let resolvedName: TableName
  public let columns: [String: Column]
  let kind: Kind
  /// Whether the role has USAGE on the schema. Without it, privileges on the table have no effect.
  let isSchemaUsable: Bool
  let privileges: Set<Privilege>
  /// The statements from which row-level security may hide rows.
  let rowsHiddenFrom: Set<Privilege>
  /// Whether the table may have rows that this role does not see.
  public var mayHideRows: Bool { rowsHiddenFrom.contains(.select) }
  /// The statements that a rule rewrites.
  let rewritten: Set<Privilege>
  /// The share of the table's pages that an index-only scan does not have to read, 0 to 1. It is 1 for a small table.
  let visibleShare: Double
  /// The first columns of indexes.
  let indexedColumns: Set<String>
  /// The columns with a unique index of their own.
  let uniqueColumns: Set<String>
  /// The primary key's columns in order. Empty if the table has no primary key.
  public let primaryKey: [String]
  /// The partition key columns of the table and its parts, without expressions.
  let partitionColumns: Set<String>
  /// The foreign keys that refer to the table, to a part of it or to a partitioned table above it.
  public let references: [ForeignKey]
  /// Each hold identifies its row by this table and `holdKey`. So a row has the same identity through a partition and
  /// through the partitioned table, if that table has a key and the role may read and change its rows.
  public let holdTable: TableName
  /// The columns that identify the rows of `holdTable`; empty without a key.
  public let holdKey: [Column]
  let versionProblem: VersionProblem?
  /// Whether other tables inherit from the table. Partitions do not count.
  let hasChildren: Bool

  /// Whether the version of a row (`xmin`) shows which transaction wrote it.
  public var hasTrustedVersions: Bool { versionProblem == nil }

  public var sql: SQL { resolvedName.sql }
  /// The quoted name, for messages, remedies and casts to regclass.
  public var quoted: String { resolvedName.quoted }

  public struct Column: Sendable {
    public let name: String
    /// The type's name in PostgreSQL: `character varying`.
    public let type: String
    /// The base type of a domain, else the same type.
    let baseType: String
    /// The type with length or precision: `character varying(20)`.
    let declaredType: String
    let isNullable: Bool
    let isGenerated: Bool
    /// Whether UPDATE is granted on the column or on the table.
    let isUpdatable: Bool
    /// Whether its type is a date or time type, or contains one, for example as an array or a range.
    let holdsTimes: Bool
    /// The schema of its type; nil for PostgreSQL's own types.
    let typeSchema: String?

    public var sql: SQL { "\(identifier: name)" }
    var quoted: String { Identifier(name).quoted }
    /// The type, for a cast.
    public var typeSQL: SQL { SQL(trusted: type) }

    /// Whether the column contains a point in time, so that `now()` and `current_date` can be assigned.
    public var isTime: Bool {
      ["timestamp with time zone", "timestamp without time zone", "date"].contains(baseType)
    }

    var isText: Bool {
      ["text", "character varying", "bpchar", "name", "citext"].contains(baseType)
    }

    public var isJSON: Bool { baseType == "jsonb" || baseType == "json" }

    /// Whether values of the type are compared with PostgreSQL's `=`. json, xml and the geometric types have no `=`, or
    /// one that is not exact, so their values are compared as text.
    public var hasEquality: Bool {
      ![
        "json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle",
      ].contains(baseType)
    }

    /// How the column stores IDs. Nil if it cannot store IDs.
    public var idKind: IDKind? { IDKind(columnType: baseType) }
  }

  enum Kind: String {
    case table = "r"
    case partitioned = "p"
    case view = "v"
    case materializedView = "m"
    case foreignTable = "f"
    case other

    /// Whether Lethe can change its rows.
    var hasChangeableRows: Bool { self == .table || self == .partitioned }
  }

  /// A foreign key that refers to a table.
  public struct ForeignKey: Sendable, Equatable {
    public let constraint: String
    /// The referring table.
    public let table: TableName
    /// The ancestors of the referring table: its partitioned tables and the tables from which it inherits. Its rows are
    /// also rows of these tables.
    let parents: [TableName]
    public let columns: [String]
    /// The referenced columns, in the same order.
    public let referencedColumns: [String]
    /// Whether the foreign key prevents the deletion of a referenced row. Otherwise the referring row is deleted, or
    /// its columns are set to NULL or to their defaults.
    public let isRestricting: Bool
    /// Whether referring rows are deleted together with the referenced row.
    let isCascading: Bool
    /// Whether the role may read the referring rows.
    public let isReadable: Bool
    /// Whether an index finds the rows that refer to a row.
    let isIndexed: Bool
    /// Whether the last column is a PERIOD, which refers to all rows that it overlaps.
    public let hasPeriod: Bool

    /// Whether rows of the declared table can be referring rows. The catalog always has the schema. A definition may
    /// leave it out.
    public func refers(from declared: TableName) -> Bool {
      ([table] + parents).contains {
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

/// How a column stores IDs.
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

  /// Converts an expression of another kind, so that PostgreSQL can use this column's index. If the conversion could
  /// fail, only values with the form of an ID are converted. Others become NULL, which equals nothing. So no error is
  /// raised.
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

  /// The condition that a text has the form of an ID. The number may still exceed the range of bigint.
  ///
  /// The condition uses the collation C, because a nondeterministic collation does not support patterns. So it works
  /// with any collation of the text.
  public static func isNumber(_ text: SQL) -> SQL {
    "(\(text)) COLLATE \"C\" ~ '^[1-9][0-9]{0,18}$'"
  }
}

extension TableName {
  public var sql: SQL { SQL(trusted: quoted) }
}
