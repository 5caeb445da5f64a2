/// Why a row of a dataset is not exported: the API cannot be asked about what its ID column holds.
public enum LeftOutCause: String, Sendable, Hashable, Codable, CaseIterable {
  /// It is NULL.
  case missing
  /// Blanks or line breaks stand around the digits.
  case blanks
  /// Zeros stand in front of the digits.
  case leadingZeros = "leading_zeros"
  /// It is a whole number and none from 1 to 2^63 - 1.
  case outOfRange = "out_of_range"
  /// It is a number with a fraction.
  case fraction
  /// It is anything else.
  case notANumber = "not_a_number"

  /// Whether `normalize: digits` reads an ID there.
  public var isMendedByDigits: Bool {
    switch self {
    case .blanks, .leadingZeros: true
    case .missing, .outOfRange, .fraction, .notANumber: false
    }
  }

  /// For people, after a number of rows.
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
  /// All rows of the dataset, those left out among them; counted only where some are.
  public let rowsOfDataset: Int

  public init(byCause: [LeftOutCause: Int], rowsOfDataset: Int) {
    self.byCause = byCause
    self.rowsOfDataset = rowsOfDataset
  }

  public var rows: Int { byCause.values.reduce(0, +) }
  public var isEverything: Bool { rows > 0 && rows >= rowsOfDataset }

  /// 0 to 100.
  public var percent: Double {
    rowsOfDataset > 0 ? 100 * Double(rows) / Double(rowsOfDataset) : 0
  }

  /// `2 without an ID, 7 with zeros in front of the ID`; empty if none is left out.
  public var words: String {
    LeftOutCause.allCases.compactMap { cause in byCause[cause].map { "\($0) \(cause.words)" } }
      .joined(separator: ", ")
  }

  /// Why they keep the dataset from being exported; nil if they do not.
  /// - Parameter percentMax: the definition's `max_skipped_percent`; nil lets all but everything pass.
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
