/// The status of a job, as the API reports it. The API defines the field as a string, so an unknown value is
/// kept, and the job counts as not ended.
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

  /// Whether the job occupies the only slot of its type.
  public var isActive: Bool {
    switch self {
    case .created, .inProgress, .unrecognized: true
    case .complete, .failed, .expired: false
    }
  }
}
