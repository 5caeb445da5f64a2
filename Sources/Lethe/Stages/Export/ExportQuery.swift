internal import DefinitionFiles
import Definitions
import PostgreSQL
import Vocabulary
import Warehouse

/// The COPY that streams a dataset's IDs in ascending order, as rows of one bigint in binary format.
struct ExportQuery {
  private let table: WarehouseTable
  private let id: IDExpression
  private let condition: String?

  /// - Throws: `DefinitionError` if the table or column was dropped, or the column got another type, after the
  ///   definition was checked.
  init(_ dataset: Dataset, catalog: Catalog) throws {
    func unusable(_ why: String) -> DefinitionError {
      DefinitionError(
        file: dataset.name, line: nil,
        message: "\(dataset.table).\(dataset.id.column) cannot be exported: \(why)",
        remedy: "run lethe check to see what does not fit")
    }
    guard let table = catalog.table(dataset.table) else {
      throw unusable("the table does not exist")
    }
    guard let id = table.id(dataset.id) else { throw unusable("the column does not exist") }
    guard id.column.idKind != nil else {
      throw unusable("the column has now a type that is no ID")
    }
    self.table = table
    self.id = id
    condition = dataset.condition
  }

  /// Selects the number of IDs, and the number of bytes of their chunks.
  var totalsSQL: SQL {
    let ids: SQL = "(\(selection(after: 0, through: .max))) AS export (id)"
    let distinct: SQL = table.isUnique(id) ? ids : "(SELECT DISTINCT id FROM \(ids)) AS export"
    return "SELECT count(*), coalesce(sum(length(id::text) + 1), 0)::bigint FROM \(distinct)"
  }

  /// The number of rows of the dataset that are not exported, by cause.
  func leftOut(on session: some Session) async throws -> LeftOutRows {
    try await table.leftOut(of: id, where: condition, on: session)
  }

  /// Selects those of the IDs that have a row in the table. The dataset's `where` is not used.
  func storedSQL(among ids: [Int64]) -> SQL {
    """
    SELECT lethe_asked.lethe_id FROM pg_catalog.unnest(\(ids)::bigint[]) AS lethe_asked (lethe_id)
    WHERE EXISTS (SELECT FROM \(table.sql) AS t
                  WHERE \(id.equals("lethe_asked.lethe_id", of: .integer, alias: "t")))
    """
  }

  /// - Parameters:
  ///   - after: the lower limit. This ID is not included.
  ///   - through: the upper limit. This ID is included.
  func sql(after: Int64, through: Int64 = .max) -> SQL {
    let key: SQL = id.kind == .text ? "key" : id.column.sql
    return
      "COPY (\(selection(after: after, through: through)) ORDER BY \(key)) TO STDOUT (FORMAT binary)"
  }

  /// The dataset's `where` as a further condition.
  private var rows: SQL {
    // The operator's SQL may end with a comment. The line break ends it, so that the parenthesis is not in it.
    condition.map { " AND (\(trusted: $0)\n)" } ?? ""
  }

  private func selection(after: Int64, through: Int64) -> SQL {
    let column = id.column.sql
    // COPY does not support bound values.
    let range: (SQL) -> SQL = {
      "\($0) > \(literal: after) AND \($0) <= \(literal: through)"
    }
    switch id.kind {
    case .integer:
      // Only the column is selected, so an index-only scan returns the IDs in order. ORDER BY means the column, because
      // the result has another name. The operator with a bigint exists only for integers, and returns a bigint: if the
      // column has got another type since the catalog was read, the statement fails.
      return """
        SELECT \(column) OPERATOR(pg_catalog.|) 0::bigint FROM \(table.sql) WHERE \(range(column))\(rows)
        """
    case .numeric:
      return """
        SELECT \(column)::bigint AS lethe_id FROM \(table.sql)
        WHERE \(range(column)) AND \(column) = trunc(\(column))\(rows)
        """
    case .text:
      // The column sorts its values as text, but the chunks need the order of the numbers. CASE prevents a cast of
      // text that is not a number, because such a cast fails.
      return """
        SELECT key::bigint AS lethe_id FROM (
          SELECT CASE WHEN \(IDKind.isNumber(id.sql())) THEN (\(id.sql()))::numeric END AS key
          FROM \(table.sql) WHERE \(column) IS NOT NULL\(rows)) AS ids
        WHERE \(range("key"))
        """
    }
  }
}
