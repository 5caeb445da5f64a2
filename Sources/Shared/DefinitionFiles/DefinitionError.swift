public import Failures

/// A definition that cannot be run, and where and how to mend it. Thrown before anything has run.
public struct DefinitionError: ExplainedError, Sendable, Equatable {
  public let file: String
  /// The first line is 1; nil where the fault is not at one line.
  public let line: Int?
  public let message: String
  public let remedy: String
  /// What else is wrong with the file, in the order of the lines. Those have no others of their own.
  public private(set) var others: [DefinitionError] = []

  public init(file: String, line: Int?, message: String, remedy: String) {
    self.file = file
    self.line = line
    self.message = message
    self.remedy = remedy
  }

  /// All that is wrong with a file as one error; nil if nothing is.
  package init?(_ mistakes: [DefinitionError]) {
    guard let first = mistakes.first else { return nil }
    self = first
    others = Array(mistakes.dropFirst())
  }

  /// This one and the others, each by itself.
  public var all: [DefinitionError] {
    [DefinitionError(file: file, line: line, message: message, remedy: remedy)] + others
  }

  public var context: ErrorContext { ErrorContext(file: file, line: line) }
  public var disposition: Disposition { .usage }

  public var what: String {
    let more = others.isEmpty ? "" : " (the first of \(others.count + 1) mistakes)"
    return "\(ownWords)\(more)"
  }

  private var ownWords: String { "\(file)\(line.map { ":\($0)" } ?? ""): \(message)" }

  public var description: String {
    all.map { "\($0.ownWords)\n  remedy: \($0.remedy)" }.joined(separator: "\n")
  }
}

/// What is wrong with a file, gathered while it is read to its end.
///
/// Reading goes on after a mistake with what is left, so whoever notes one must not have a reader further
/// on complain of its consequences.
package final class Mistakes {
  package let file: String
  private var found: [DefinitionError] = []

  package init(file: String) {
    self.file = file
  }

  package var areNone: Bool { found.isEmpty }

  /// The same one counts once: a value may be read in several places.
  package func note(_ line: Int?, _ message: String, _ remedy: String) {
    let mistake = DefinitionError(file: file, line: line, message: message, remedy: remedy)
    if !found.contains(mistake) { found.append(mistake) }
  }

  /// - Throws: `DefinitionError` with all that was noted, in the order of the lines.
  package func rethrow() throws {
    let sorted = found.enumerated().sorted {
      ($0.element.line ?? .max, $0.offset) < ($1.element.line ?? .max, $1.offset)
    }
    if let error = DefinitionError(sorted.map(\.element)) { throw error }
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
