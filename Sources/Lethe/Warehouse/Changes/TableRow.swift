package import Definitions
package import SQLText

/// A row of a table in a statement.
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

  /// The expression to evaluate for each row; nil for a constant.
  package func expression(of value: ColumnValue) -> ValueExpression? {
    table.columns[value.column].flatMap { ValueExpression(value.value, column: $0) }
  }

  /// The cast fixes the placeholder's type. Without it, the two sides could infer different types.
  package func value(_ value: ColumnValue) -> SQL {
    let type = table.columns[value.column]?.typeSQL ?? "text"
    if let expression = expression(of: value) { return "\(expression.sql)::\(type)" }
    return "\(value.value)::\(type)"
  }

  /// The condition that the JSON value has a value at one of the paths.
  package func has(_ paths: [[String]], in json: SQL) -> SQL {
    .any(paths.map { "\(json)::jsonb #> \($0)::text[] IS NOT NULL" })
  }

  /// Removes the paths that exist in the value. PostgreSQL raises an error for a path into a scalar, or for a key in an
  /// array. So the empty path, which removes nothing, replaces each path that does not exist.
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
