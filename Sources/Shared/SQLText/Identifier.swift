/// An SQL identifier. It is quoted, so that any characters are safe.
public struct Identifier: Sendable, Hashable {
  public let name: String

  public init(_ name: String) {
    self.name = name
  }

  /// The name in double quotes, with quotes in it doubled, like libpq's PQescapeIdentifier.
  public var quoted: String {
    "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
      + "\""
  }
}
