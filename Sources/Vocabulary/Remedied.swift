/// An error that tells its reader what to do about it.
public protocol Remedied: Error, Sendable, CustomStringConvertible {
  var message: String { get }
  var remedy: String { get }
}

extension Remedied {
  public var description: String { "\(message)\n  remedy: \(remedy)" }
}
