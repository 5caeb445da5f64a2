/// Why a row of a dataset is not exported: its ID column has no ID that the API accepts.
public enum LeftOutCause: String, Sendable, Hashable, Codable, CaseIterable {
  /// It is NULL.
  case missing
  /// There are spaces or line breaks around the digits.
  case blanks
  /// There are zeros before the digits.
  case leadingZeros = "leading_zeros"
  /// It is a whole number outside of 1 to 2^63 - 1.
  case outOfRange = "out_of_range"
  /// It is a number with a fraction.
  case fraction
  /// It is anything else.
  case notANumber = "not_a_number"

  /// Whether `normalize: digits` can read an ID in such a row.
  public var isMendedByDigits: Bool {
    switch self {
    case .blanks, .leadingZeros: true
    case .missing, .outOfRange, .fraction, .notANumber: false
    }
  }

  /// The text for people, to follow a number of rows.
  public var words: String {
    switch self {
    case .missing: "without an ID"
    case .blanks: "with blanks or line breaks around the ID"
    case .leadingZeros: "with zeros in front of the ID"
    case .outOfRange: "with a number that is no ID"
    case .fraction: "with a fraction"
    case .notANumber: "with something else than a number"
    }
  }
}

/// How many rows of a dataset were not exported, by cause.
public struct LeftOutRows: Sendable, Equatable {
  public let byCause: [LeftOutCause: Int]
  /// All rows of the dataset, including those left out. Counted only if rows are left out.
  public let rowsOfDataset: Int

  public init(byCause: [LeftOutCause: Int], rowsOfDataset: Int) {
    self.byCause = byCause
    self.rowsOfDataset = rowsOfDataset
  }

  public var rows: Int { byCause.values.reduce(0, +) }
  public var isEverything: Bool { rows > 0 && rows >= rowsOfDataset }

  /// The percentage of rows that are left out, 0 to 100.
  public var percent: Double {
    rowsOfDataset > 0 ? 100 * Double(rows) / Double(rowsOfDataset) : 0
  }

  /// The text for messages, such as `2 without an ID, 7 with zeros in front of the ID`. Empty if no row is
  /// left out.
  public var words: String {
    LeftOutCause.allCases.compactMap { cause in byCause[cause].map { "\($0) \(cause.words)" } }
      .joined(separator: ", ")
  }

  /// Why the dataset is not exported because of these rows. Nil if it is exported.
  /// - Parameter percentMax: the definition's `max_skipped_percent`. If it is nil, only a dataset without any
  ///   usable ID is stopped.
  public func reasonToStop(percentMax: Double?) -> String? {
    if isEverything {
      return "all \(rows) rows are left out: \(words)"
    }
    guard let percentMax, percent > percentMax else { return nil }
    return """
      \(rows) of \(rowsOfDataset) rows are left out, over max_skipped_percent \(percentMax): \(words)
      """
  }
}
