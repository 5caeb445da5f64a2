import Definitions
public import PostgreSQL
public import Vocabulary

extension WarehouseTable {
  /// Counts the rows whose ID cannot be sent to the API. If there are any, it also counts all rows of the dataset.
  ///
  /// If there are none, the whole table is read only if no index can find such rows: for text, and for numbers that may
  /// have decimal places.
  ///
  /// - Parameter condition: the operator's condition; only rows that meet it are counted.
  public func leftOut(
    of id: IDExpression, where condition: String?, on session: some Session
  ) async throws -> LeftOutRows {
    // The operator's SQL may end with a comment. The line break ends the comment, so that the parenthesis is not in it.
    let isIncluded: SQL = condition.map { "(\(trusted: $0)\n)" } ?? "true"
    let suspects: SQL = id.suspects.map { "(\($0)) AND " } ?? ""
    let counts = try await session.query(
      """
      SELECT cause, pg_catalog.count(*) FROM (
        SELECT \(id.leftOutCause) AS cause FROM \(sql) WHERE \(suspects)\(isIncluded)) AS looked_at
      GROUP BY cause
      """
    ).rows(as: String?.self, Int.self)
    let byCause = Dictionary(
      uniqueKeysWithValues: counts.compactMap { word, rows in
        word.flatMap(LeftOutCause.init).map { ($0, rows) }
      })
    guard !byCause.isEmpty else { return LeftOutRows(byCause: [:], rowsOfDataset: 0) }
    let rows =
      if id.suspects == nil {
        counts.reduce(0) { $0 + $1.1 }
      } else {
        try await session.query("SELECT pg_catalog.count(*) FROM \(sql) WHERE \(isIncluded)")
          .onlyRow(as: Int.self)
      }
    return LeftOutRows(byCause: byCause, rowsOfDataset: rows)
  }
}

extension IDExpression {
  /// A condition by which an index finds rows that may be left out; nil if all rows have to be read.
  fileprivate var suspects: SQL? {
    let value = column.sql
    switch kind {
    case .integer: return column.isNullable ? "\(value) IS NULL OR \(value) <= 0" : "\(value) <= 0"
    case .numeric:
      guard column.hasNoFraction else { return nil }
      return "\(value) IS NULL OR \(value) <= 0 OR \(value) > \(literal: Int64.max)"
    case .text: return nil
    }
  }

  /// The SQL expression of the cause for which a row is left out, as a raw value of `LeftOutCause`. NULL if the row is
  /// exported.
  fileprivate var leftOutCause: SQL {
    let value = column.sql
    switch kind {
    case .integer:
      return """
        CASE WHEN \(value) IS NULL THEN 'missing' WHEN \(value) <= 0 THEN 'out_of_range' END
        """
    case .numeric:
      return """
        CASE WHEN \(value) IS NULL THEN 'missing' WHEN \(value) = 'NaN' THEN 'not_a_number'
             WHEN \(value) <= 0 OR \(value) > \(literal: Int64.max) THEN 'out_of_range'
             WHEN \(value) <> pg_catalog.trunc(\(value)) THEN 'fraction' END
        """
    case .text:
      let digits = IDNormalization.digits.sql(value)
      let plain: SQL = "(\(value))::text COLLATE \"C\""
      return """
        CASE WHEN \(value) IS NULL THEN 'missing'
             WHEN \(Self.isID(sql())) THEN NULL
             WHEN \(Self.isID(digits)) THEN
               CASE WHEN \(plain) ~ '^[0-9]+$' THEN 'leading_zeros' ELSE 'blanks' END
             WHEN \(plain) ~ '^[[:space:]]*[+-]?[0-9]+[[:space:]]*$' THEN 'out_of_range'
             WHEN \(plain) ~ '^[[:space:]]*[+-]?[0-9]+[.][0-9]+[[:space:]]*$' THEN 'fraction'
             ELSE 'not_a_number' END
        """
    }
  }

  /// The condition that a text is an ID. CASE prevents a cast of text that is not a number, which would fail.
  private static func isID(_ text: SQL) -> SQL {
    "CASE WHEN \(IDKind.isNumber(text)) THEN (\(text))::numeric <= \(literal: Int64.max) ELSE false END"
  }
}

extension WarehouseTable.Column {
  /// Whether its type stores only integers: `numeric(20,0)`.
  fileprivate var hasNoFraction: Bool {
    declaredType.wholeMatch(of: /numeric\([0-9]+(,0)?\)/) != nil
  }
}
