/// An error for the operator of a program: what is wrong, where, and what to do about it.
///
/// `summary`, `remedy` and `description` are safe to log: they never contain a row's values or a secret. The `message`
/// of a `PostgreSQLError` can contain values.
public protocol ExplainedError: Error, CustomStringConvertible {
  /// What is wrong, without `context`.
  var message: String { get }
  var remedy: String { get }
  var context: ErrorContext { get }
  var disposition: Disposition { get }
  /// What is wrong and where, without the remedy.
  var summary: String { get }
}

extension ExplainedError {
  public var context: ErrorContext { ErrorContext() }

  public var summary: String { context.label.map { "\($0): \(message)" } ?? message }

  public var description: String { "\(summary)\n  remedy: \(remedy)" }
}

/// The category of an error. It determines the program's exit code.
public enum Disposition: Sendable, Hashable, CaseIterable {
  /// The command line, the definition or the environment is wrong.
  case usage
  /// The warehouse or the API refuses one request or change; the others can continue.
  case refused
  /// Another process holds a resource that this one needs, such as a lock.
  case held
  /// A temporary problem: try again later.
  case temporary
  /// The API, PostgreSQL or a proxy refuses access, for example because of wrong credentials, or because the App has no
  /// credits left. A missing privilege in PostgreSQL is `failed`.
  case credentials
  /// Any other error.
  case failed

  /// The exit code of a program that ends with this error.
  public var exitCode: Int32 {
    switch self {
    case .usage: 2
    case .refused: 5
    case .held: 6
    case .temporary: 75
    case .credentials: 77
    case .failed: 1
    }
  }
}

/// Where the error occurred, as far as it is known.
public struct ErrorContext: Sendable, Hashable {
  public var file: String?
  /// The first line is 1.
  public var line: Int?
  public var dataset: String?
  public var chunk: Int64?
  /// The chunk's number within its run and dataset.
  public var chunkNumber: Int?
  /// The API call that failed, with the job's name or ID.
  public var operation: String?

  public init() {}

  public init(file: String, line: Int? = nil) {
    (self.file, self.line) = (file, line)
  }

  public init(chunk: Int64, number: Int, dataset: String) {
    (self.chunk, chunkNumber, self.dataset) = (chunk, number, dataset)
  }

  public init(operation: String) {
    self.operation = operation
  }

  /// The text for messages, such as `nightly.yaml:7` or `chunk 12 (posts #3)`; nil if nothing is known.
  public var label: String? {
    var parts: [String] = []
    if let file { parts.append(line.map { "\(file):\($0)" } ?? file) }
    if let chunk {
      let details = [dataset, chunkNumber.map { "#\($0)" }].compactMap(\.self)
      parts.append(
        "chunk \(chunk)" + (details.isEmpty ? "" : " (\(details.joined(separator: " ")))"))
    } else if let dataset {
      parts.append("dataset \(dataset)")
    }
    if let operation { parts.append(operation) }
    return parts.isEmpty ? nil : parts.joined(separator: ": ")
  }
}
