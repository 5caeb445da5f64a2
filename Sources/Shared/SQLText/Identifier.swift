/// A name in SQL, quoted so that it means exactly itself whatever it contains.
public struct Identifier: Sendable, Hashable {
  public let name: String

  public init(_ name: String) {
    self.name = name
  }

  /// The name as SQL text: always in quotes, a quote within doubled, as libpq's PQescapeIdentifier
  /// writes it.
  public var quoted: String {
    "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
      + "\""
  }
}
