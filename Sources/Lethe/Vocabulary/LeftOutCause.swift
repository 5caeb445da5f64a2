/// Why a row of a dataset is not exported: its ID column has no ID that the API accepts.
public enum LeftOutCause: String, Sendable, Hashable, Codable, CaseIterable {
  /// The value is NULL.
  case missing
  /// The value has spaces, tabs or line breaks around the digits.
  case blanks
  /// The value has leading zeros.
  case leadingZeros = "leading_zeros"
  /// The value is a whole number outside of 1 to 2^63 - 1, or has a sign.
  case outOfRange = "out_of_range"
  /// The value is a number with decimal places.
  case fraction
  /// The value is anything else.
  case notANumber = "not_a_number"

  /// Whether `normalize: digits` can read an ID in such a row.
  public var isNormalizable: Bool {
    switch self {
    case .blanks, .leadingZeros: true
    case .missing, .outOfRange, .fraction, .notANumber: false
    }
  }

  /// The text that follows a number of rows in a message.
  public var phrase: String {
    switch self {
    case .missing: "without an ID"
    case .blanks: "with blanks or line breaks around the ID"
    case .leadingZeros: "with zeros in front of the ID"
    case .outOfRange: "with a sign or a whole number outside of 1 to 9223372036854775807"
    case .fraction: "with a number with decimal places"
    case .notANumber: "with a value that is not a number"
    }
  }
}

/// How many rows of a dataset were not exported, by cause.
public struct LeftOutRows: Sendable, Equatable {
  public let byCause: [LeftOutCause: Int]
  /// The number of rows of the dataset, including those left out. Counted only if rows are left out, otherwise 0.
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
  public var summary: String {
    LeftOutCause.allCases.compactMap { cause in byCause[cause].map { "\($0) \(cause.phrase)" } }
      .joined(separator: ", ")
  }

  /// Why the dataset is not exported because of these rows. Nil if it is exported.
  /// - Parameter percentMax: the definition's `max_skipped_percent`. If it is nil, only a dataset without any
  ///   usable ID is stopped.
  public func reasonToStop(percentMax: Double?) -> String? {
    if isEverything {
      return "all \(rows) rows are left out: \(summary)"
    }
    guard let percentMax, percent > percentMax else { return nil }
    return """
      \(rows) of \(rowsOfDataset) rows are left out, over max_skipped_percent \(percentMax): \(summary)
      """
  }
}
