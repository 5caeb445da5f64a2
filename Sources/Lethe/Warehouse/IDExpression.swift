public import Definitions
public import PostgreSQL

/// An ID as SQL: read from a column, in the form that the definition gives it. Whatever looks for the rows of an
/// ID, or for the IDs of rows, goes by this, so that all of it sees the same IDs.
public struct IDExpression: Sendable {
  public let column: WarehouseTable.Column
  public let kind: IDKind
  private let normalization: IDNormalization?

  public var name: String { column.name }
  public var isNormalized: Bool { normalization != nil }

  /// - Parameter source: the definition's; what it normalizes is text.
  public init(_ column: WarehouseTable.Column, _ source: IDSource) {
    self.init(column, source.normalization)
  }

  init(_ column: WarehouseTable.Column, _ normalization: IDNormalization?) {
    self.column = column
    kind = column.idKind ?? .integer
    self.normalization = kind == .text ? normalization : nil
  }

  /// Whether it reads the same column in the same way.
  public func isSame(as other: IDExpression) -> Bool {
    name == other.name && normalization == other.normalization
  }

  /// Of a row by this name; nil for the only one.
  public func sql(of alias: SQL? = nil) -> SQL {
    let value = alias.map { "\($0).\(column.sql)" } ?? column.sql
    return normalization.map { $0.sql(value) } ?? value
  }

  /// The condition that it is the ID that another expression is.
  public func equals(_ other: SQL, of otherKind: IDKind, alias: SQL? = nil) -> SQL {
    "\(sql(of: alias)) = \(kind.cast(other, from: otherKind))"
  }

  /// As a number; what is no ID becomes NULL.
  public func number(of alias: SQL? = nil) -> SQL {
    IDKind.integer.cast(sql(of: alias), from: kind)
  }
}

extension IDNormalization {
  /// The IDs in a text, however it is sorted. An index over it has to be written just so.
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
  /// The IDs of a column that the table has.
  public func id(_ source: IDSource) -> IDExpression? {
    columns[source.column].map { IDExpression($0, source) }
  }

  /// Whether at most one row has a given ID. Values that an index tells apart may be one ID normalized.
  public func isUnique(_ id: IDExpression) -> Bool {
    !id.isNormalized && uniqueColumns.contains(id.name)
  }
}
