import Definitions
public import PostgreSQL

/// A value of a definition that is not a constant. It is evaluated when a row is changed. In columns of other
/// types than date and timestamp, the same word is a plain string.
public enum ValueExpression: Sendable, Equatable, CaseIterable {
  case now
  case currentDate

  /// The word in a definition. Its case does not matter.
  public var word: String {
    switch self {
    case .now: "now()"
    case .currentDate: "current_date"
    }
  }

  public var sql: SQL {
    switch self {
    case .now: "pg_catalog.now()"
    case .currentDate: "current_date"
    }
  }

  /// - Parameter value: the value's text in the definition; nil for NULL.
  public init?(_ value: String?, column: WarehouseTable.Column) {
    guard column.isTime, let value else { return nil }
    self.init(word: value)
  }

  init?(word: String) {
    let word = Self.plain(word)
    guard let known = Self.allCases.first(where: { $0.word == word }) else { return nil }
    self = known
  }

  private static func plain(_ value: String) -> String {
    let blanks: Set<Character> = [" ", "\t", "\n", "\r", "\r\n"]
    return String(
      value.drop { blanks.contains($0) }.reversed().drop { blanks.contains($0) }.reversed()
    ).lowercased()
  }
}

/// Finds words in a value that mean, or seem to mean, the current time.
enum VolatileTime {
  /// A date or timestamp literal with one of these words depends on the current time. PostgreSQL accepts even `now + 1`
  /// and `(today)`.
  private static let words: Set<String> = ["now", "today", "tomorrow", "yesterday"]
  /// Keywords that are evaluated in SQL, but not in a literal. `sysdate` is Oracle's, and `getdate` is SQL Server's.
  /// The names in `functions` count only with parentheses, because they are ordinary words without them.
  private static let keywords: Set<String> = [
    "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "sysdate",
  ]
  private static let functions: Set<String> = [
    "now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday",
    "getdate",
  ]

  /// The first word in a value that makes the value depend on the current time.
  static func word(in value: String) -> String? { tokens(value).first(where: words.contains) }

  /// Whether a value contains `allballs`, which means 00:00:00 UTC.
  static func hasAllballs(_ value: String) -> Bool { tokens(value).contains("allballs") }

  private static func tokens(_ value: String) -> [String] {
    value.lowercased().split { !$0.isASCII || !$0.isLetter }.map(String.init)
  }

  /// Whether a value is written as an SQL call for the current time: `CURRENT_TIMESTAMP`, `localtime(3)`.
  static func isCall(_ value: String) -> Bool {
    guard
      let call = value.lowercased().wholeMatch(
        of: #/\s*(?:pg_catalog\s*\.\s*)?([a-z_]+)\s*(\(\s*[0-9]*\s*\))?\s*/#)
    else { return false }
    let name = String(call.1)
    return keywords.contains(name) || call.2 != nil && functions.contains(name)
  }
}

extension Checker {
  /// Refuses a literal that depends on the current time, because each run would set another time. Also refuses calls,
  /// which are not evaluated in a literal, and `allballs`. A value for a column without times is not refused.
  /// - Returns: whether the value can be used.
  mutating func checkIsConstant(
    _ value: ColumnValue, in column: WarehouseTable.Column, of table: WarehouseTable, path: String
  ) -> Bool {
    guard let text = value.value, ValueExpression(text, column: column) == nil else { return true }
    let name = "\(table.name).\(column.name)"
    guard column.holdsTimes else {
      if column.isText, VolatileTime.isCall(text) {
        warn(
          path, "\(name) is \(column.type) and gets the text \(text), not a time",
          "name a column of type timestamptz, timestamp or date, or set another text")
      }
      return true
    }
    let reason: String
    if let word = VolatileTime.word(in: text) {
      reason = "\(word) means a different time in each run"
    } else if VolatileTime.isCall(text) {
      reason = "it is not evaluated in a literal"
    } else if column.isTime, VolatileTime.hasAllballs(text) {
      reason = "allballs is a word for 00:00 UTC"
    } else {
      return true
    }
    error(
      path, "\(name) is \(column.type) and cannot be set to \(text): \(reason)",
      column.isTime
        ? "write now() or current_date alone, which are evaluated once for a row, or a date or timestamp such as '2020-01-01'"
        : "write a constant; only columns of type timestamptz, timestamp and date accept now() and current_date"
    )
    return false
  }
}
