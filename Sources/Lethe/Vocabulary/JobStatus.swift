/// The API's word for where a job stands. The field is an untyped string there, so a word that is not
/// known is kept and taken for "not finished".
public enum JobStatus: Sendable, Hashable, CustomStringConvertible {
  case created
  case inProgress
  case complete
  case failed
  case expired
  case unrecognized(String)

  public init(_ word: String) {
    self =
      switch word {
      case "created": .created
      case "in_progress": .inProgress
      case "complete": .complete
      case "failed": .failed
      case "expired": .expired
      default: .unrecognized(word)
      }
  }

  public var description: String {
    switch self {
    case .created: "created"
    case .inProgress: "in_progress"
    case .complete: "complete"
    case .failed: "failed"
    case .expired: "expired"
    case .unrecognized(let word): word
    }
  }

  /// The job holds the one slot that its type has.
  public var isActive: Bool {
    switch self {
    case .created, .inProgress, .unrecognized: true
    case .complete, .failed, .expired: false
    }
  }
}
