/// An SQL identifier. `quoted` makes it safe for any characters.
public struct Identifier: Sendable, Hashable {
  public let name: String

  public init(_ name: String) {
    self.name = name
  }

  /// The name in double quotes. Each double quote in the name is doubled, as libpq's PQescapeIdentifier does it.
  public var quoted: String {
    "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
      + "\""
  }
}
