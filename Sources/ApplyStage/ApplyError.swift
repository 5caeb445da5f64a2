/// The warehouse does not take a change. Nothing of the batch was kept.
public struct ApplyError: Error, Sendable, CustomStringConvertible {
  public let message: String
  public let remedy: String

  public var description: String { "\(message)\n  remedy: \(remedy)" }
}
