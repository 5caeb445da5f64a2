package import Definitions
package import SQLText

/// A table's row in the SQL text of a statement. The row's columns are written with the alias.
package struct TableRow: RowSQL {
  package let table: WarehouseTable
  package let alias: SQL

  package func column(_ name: String) -> SQL { "\(alias).\(identifier: name)" }

  package func assignment(_ value: ColumnValue) -> SQL {
    "\(identifier: value.column) = \(self.value(value))"
  }

  package func assignment(_ cut: JSONCut) -> SQL {
    "\(identifier: cut.column) = \(self.cut(cut, of: column(cut.column)))"
  }

  package func isAsSet(_ value: ColumnValue) -> SQL { compared(value, isDistinct: false) }

  package func differs(_ value: ColumnValue) -> SQL { compared(value, isDistinct: true) }

  package func has(_ cut: JSONCut) -> SQL { has(cut.paths, in: column(cut.column)) }

  private func compared(_ value: ColumnValue, isDistinct: Bool) -> SQL {
    let name = column(value.column)
    if expression(of: value) != nil {
      return isDistinct ? "\(name) IS NULL" : "\(name) IS NOT NULL"
    }
    let text: SQL = table.columns[value.column]?.hasEquality == false ? "::text" : ""
    let comparison: SQL = isDistinct ? "IS DISTINCT FROM" : "IS NOT DISTINCT FROM"
    return "\(name)\(text) \(comparison) \(self.value(value))\(text)"
  }

  /// The expression that the statement evaluates for each row. Nil if the value is a constant.
  package func expression(of value: ColumnValue) -> ValueExpression? {
    table.columns[value.column].flatMap { ValueExpression(value.value, column: $0) }
  }

  /// The value with a cast to the column's type. Without the cast, PostgreSQL could infer another type for the
  /// parameter.
  package func value(_ value: ColumnValue) -> SQL {
    let type = table.columns[value.column]?.typeSQL ?? "text"
    if let expression = expression(of: value) { return "\(expression.sql)::\(type)" }
    return "\(value.value)::\(type)"
  }

  /// The condition that the JSON value has a value at one of the paths.
  package func has(_ paths: [[String]], in json: SQL) -> SQL {
    .any(paths.map { "\(json)::jsonb #> \($0)::text[] IS NOT NULL" })
  }

  /// The JSON value without the paths. PostgreSQL's operator `#-` raises an error for a path into a scalar, or for a
  /// key in an array. So each path that does not exist is replaced by the empty path, which removes nothing.
  package func cut(_ cut: JSONCut, of json: SQL) -> SQL {
    let type = table.columns[cut.column]?.typeSQL ?? "jsonb"
    let paths = cut.paths.map { path -> SQL in
      let path: SQL = "\(path)::text[]"
      return " #- CASE WHEN \(json)::jsonb #> \(path) IS NOT NULL THEN \(path) ELSE '{}' END"
    }
    return """
      CASE WHEN jsonb_typeof(\(json)::jsonb) IN ('object', 'array') \
      THEN (\(json)::jsonb\(paths.joined()))::\(type) ELSE \(json)::\(type) END
      """
  }
}
