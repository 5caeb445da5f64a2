/// The warehouse does not take a change. Nothing of the batch was kept.
public struct ApplyError: Error, Sendable, CustomStringConvertible {
  public let message: String
  public let remedy: String
  /// Whether another try may succeed: a writer beside us may be the cause.
  var mayPass = false

  public var description: String { "\(message)\n  remedy: \(remedy)" }
}
