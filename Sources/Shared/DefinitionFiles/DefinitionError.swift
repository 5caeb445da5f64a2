public import Failures

/// A mistake in a definition or a fault plan, with its position and remedy. A definition that does not fit the database
/// is also reported as this error.
public struct DefinitionError: ExplainedError, Sendable, Equatable {
  public let file: String
  /// The first line is 1; nil if the mistake is not on one line.
  public let line: Int?
  public let message: String
  public let remedy: String
  /// The file's other mistakes, in the order of the lines. Their own `others` are empty.
  public private(set) var others: [DefinitionError] = []

  public init(file: String, line: Int?, message: String, remedy: String) {
    self.file = file
    self.line = line
    self.message = message
    self.remedy = remedy
  }

  /// All mistakes of a file as one error; nil if there is none.
  package init?(_ mistakes: [DefinitionError]) {
    guard let first = mistakes.first else { return nil }
    self = first
    others = Array(mistakes.dropFirst())
  }

  /// All mistakes, each as a separate error.
  public var all: [DefinitionError] {
    [DefinitionError(file: file, line: line, message: message, remedy: remedy)] + others
  }

  public var context: ErrorContext { ErrorContext(file: file, line: line) }
  public var disposition: Disposition { .usage }

  public var summary: String {
    let more = others.isEmpty ? "" : " (the first of \(others.count + 1) mistakes)"
    return "\(ownSummary)\(more)"
  }

  private var ownSummary: String { "\(file)\(line.map { ":\($0)" } ?? ""): \(message)" }

  public var description: String {
    all.map { "\($0.ownSummary)\n  remedy: \($0.remedy)" }.joined(separator: "\n")
  }
}

/// Collects all mistakes of a file while it is read to its end.
///
/// Reading continues after a mistake. Code that notes a mistake must prevent further errors about the same
/// mistake.
package final class Mistakes {
  package let file: String
  private var found: [DefinitionError] = []

  package init(file: String) {
    self.file = file
  }

  package var areNone: Bool { found.isEmpty }

  /// Notes a mistake. A repeated mistake is noted only once, because several readers may read one value.
  package func note(_ line: Int?, _ message: String, _ remedy: String) {
    let mistake = DefinitionError(file: file, line: line, message: message, remedy: remedy)
    if !found.contains(mistake) { found.append(mistake) }
  }

  /// - Throws: `DefinitionError` with all noted mistakes, in the order of the lines.
  package func rethrow() throws {
    let sorted = found.enumerated().sorted {
      ($0.element.line ?? .max, $0.offset) < ($1.element.line ?? .max, $1.offset)
    }
    if let error = DefinitionError(sorted.map(\.element)) { throw error }
  }
}

/// A value and its line in the file.
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
