/// A definition that cannot be run, and where and how to mend it. Thrown before anything has run.
public struct DefinitionError: Error, Sendable, Equatable, CustomStringConvertible {
  public let file: String
  /// The first line is 1; nil where the fault is not at one line.
  public let line: Int?
  public let message: String
  public let remedy: String

  public init(file: String, line: Int?, message: String, remedy: String) {
    self.file = file
    self.line = line
    self.message = message
    self.remedy = remedy
  }

  public var description: String {
    "\(file)\(line.map { ":\($0)" } ?? ""): \(message)\n  remedy: \(remedy)"
  }
}

/// A value and the line of the file that it stands on.
package struct Located<Value: Sendable>: Sendable {
  package let value: Value
  package let line: Int

  package init(value: Value, line: Int) {
    self.value = value
    self.line = line
  }

  package func map<R>(_ transform: (Value) throws -> R) rethrows -> Located<R> {
    Located<R>(value: try transform(value), line: line)
  }
}
