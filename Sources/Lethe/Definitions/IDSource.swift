/// A column with IDs, and how its values are normalized.
public struct IDSource: Sendable, Hashable {
  public let column: String
  /// How values are normalized. If it is nil, values are not changed. Then a text with white space or leading zeros is
  /// not an ID.
  public let normalization: IDNormalization?

  public init(column: String, normalization: IDNormalization? = nil) {
    self.column = column
    self.normalization = normalization
  }
}

/// The characters that are removed from a text before it is read as an ID.
public enum IDNormalization: String, Sendable, Hashable, Codable, CaseIterable {
  /// Removes leading and trailing ASCII white space, and leading zeros.
  case digits
}

extension IDSource: ExpressibleByStringLiteral {
  public init(stringLiteral column: String) {
    self.init(column: column)
  }
}

extension IDSource: Codable {
  private enum CodingKeys: CodingKey {
    case column, normalize
  }

  /// Reads an ID source. Without normalization, and in definitions that an older version of Lethe stored with its runs,
  /// an ID source is only the column's name.
  public init(from decoder: any Decoder) throws {
    if let column = try? decoder.singleValueContainer().decode(String.self) {
      self.init(column: column)
      return
    }
    let members = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      column: try members.decode(String.self, forKey: .column),
      normalization: try members.decode(IDNormalization.self, forKey: .normalize))
  }

  public func encode(to encoder: any Encoder) throws {
    guard let normalization else {
      var value = encoder.singleValueContainer()
      try value.encode(column)
      return
    }
    var members = encoder.container(keyedBy: CodingKeys.self)
    try members.encode(column, forKey: .column)
    try members.encode(normalization, forKey: .normalize)
  }
}
