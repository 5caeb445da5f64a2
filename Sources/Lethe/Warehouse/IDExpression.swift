public import Definitions
public import PostgreSQL

/// The SQL expression of an ID: a column, with the definition's normalization. Every statement that looks for the rows
/// of an ID, or for the IDs of rows, uses this expression. So all of them find the same IDs.
public struct IDExpression: Sendable {
  public let column: WarehouseTable.Column
  public let kind: IDKind
  private let normalization: IDNormalization?

  public var name: String { column.name }
  public var isNormalized: Bool { normalization != nil }

  /// - Parameter source: the column and its normalization in the definition. Only text can be normalized.
  public init(_ column: WarehouseTable.Column, _ source: IDSource) {
    self.init(column, source.normalization)
  }

  init(_ column: WarehouseTable.Column, _ normalization: IDNormalization?) {
    self.column = column
    kind = column.idKind ?? .integer
    self.normalization = kind == .text ? normalization : nil
  }

  /// Whether both expressions have the same column and normalization.
  public func isSame(as other: IDExpression) -> Bool {
    name == other.name && normalization == other.normalization
  }

  /// The expression for a row of the table. `alias` is nil if the statement does not use an alias.
  public func sql(of alias: SQL? = nil) -> SQL {
    let value = alias.map { "\($0).\(column.sql)" } ?? column.sql
    return normalization.map { $0.sql(value) } ?? value
  }

  /// The condition that this ID equals the ID of another expression.
  public func equals(_ other: SQL, of otherKind: IDKind, alias: SQL? = nil) -> SQL {
    "\(sql(of: alias)) = \(kind.cast(other, from: otherKind))"
  }

  /// The ID as a number. In numeric and text columns, a value that is not an ID becomes NULL. Integers are unchanged.
  public func number(of alias: SQL? = nil) -> SQL {
    IDKind.integer.cast(sql(of: alias), from: kind)
  }
}

extension IDNormalization {
  /// The ID that a text contains. It works with any collation of the text. An index must have exactly this expression.
  public func sql(_ text: SQL) -> SQL {
    switch self {
    case .digits:
      """
      pg_catalog.ltrim(pg_catalog.btrim((\(text))::text COLLATE "C", E' \\t\\n\\x0B\\f\\r'), '0')
      """
    }
  }
}

extension WarehouseTable {
  /// The ID expression of a column; nil if the table has no such column.
  public func id(_ source: IDSource) -> IDExpression? {
    columns[source.column].map { IDExpression($0, source) }
  }

  /// Whether at most one row has a given ID. With normalization, different values of a unique column can be one ID.
  public func isUnique(_ id: IDExpression) -> Bool {
    !id.isNormalized && uniqueColumns.contains(id.name)
  }
}
