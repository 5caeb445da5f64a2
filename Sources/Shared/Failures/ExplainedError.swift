/// An error that a program shows to whoever runs it: what is wrong, where, and what to do about it.
///
/// Its texts are safe to log: they never have the content of a row or a secret.
public protocol ExplainedError: Error, CustomStringConvertible {
  /// What is wrong, without `context`.
  var message: String { get }
  var remedy: String { get }
  var context: ErrorContext { get }
  var disposition: Disposition { get }
  /// What is wrong and where, in one line.
  var what: String { get }
}

extension ExplainedError {
  public var context: ErrorContext { ErrorContext() }

  public var what: String { context.label.map { "\($0): \(message)" } ?? message }

  public var description: String { "\(what)\n  remedy: \(remedy)" }
}

/// What has to happen before the same can succeed. A program's exit code is made from this alone.
public enum Disposition: Sendable, Hashable, CaseIterable {
  /// The command line, the definition or the surroundings are wrong. Nothing has run.
  case usage
  /// The warehouse or the API refuses one thing; all else can go on.
  case refused
  /// Somebody else has what is needed.
  case held
  /// Nothing is wrong but the moment.
  case temporary
  /// Somebody has to give credentials, rights or credits.
  case credentials
  case failed

  /// Of a program that ends with such an error.
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

/// What an error is about, as far as it is known.
public struct ErrorContext: Sendable, Hashable {
  public var file: String?
  /// The first line is 1.
  public var line: Int?
  public var dataset: String?
  public var chunk: Int64?
  /// Within its run and dataset.
  public var chunkNumber: Int?
  /// What was tried at the API, with the job's name or ID.
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

  /// Such as `nightly.yaml:7` or `chunk 12 (posts #3)`; nil if nothing is known.
  public var label: String? {
    var parts: [String] = []
    if let file { parts.append(line.map { "\(file):\($0)" } ?? file) }
    if let chunk {
      let place = [dataset, chunkNumber.map { "#\($0)" }].compactMap(\.self)
      parts.append("chunk \(chunk)" + (place.isEmpty ? "" : " (\(place.joined(separator: " ")))"))
    } else if let dataset {
      parts.append("dataset \(dataset)")
    }
    if let operation { parts.append(operation) }
    return parts.isEmpty ? nil : parts.joined(separator: ": ")
  }
}
