/// What an answer's status and its problem type mean for a call.
///
/// docs/reference/api-outcomes.md shows it as a table, with the effects on the chunk and the run. Sources: the X docs'
/// pages on errors and problems, and Google Cloud Storage's XML API for the storage host.
enum StatusTable {
  /// Whether the status means success for this call.
  static func isSuccess(_ status: Int, of call: Endpoint) -> Bool {
    switch call {
    case .create, .list, .get, .session: status == 200 || status == 201
    // 308 names the number of bytes that are stored.
    case .part: status == 200 || status == 201 || status == 308
    case .cancel, .upload: (200..<300).contains(status)
    case .download: status == 200
    }
  }

  /// The kind of error of an answer whose status is not a success.
  static func kind(_ status: Int?, _ cause: ProblemCause?, for call: Endpoint) -> APIError.Kind {
    if let kind = kind(cause, for: call) { return kind }
    guard let status else { return call.isAboutAJob ? .jobRefused : .invalidRequest }
    return call.carriesBytes ? ofBytes(status, call) : ofJSON(status, call)
  }

  /// The problem type counts more than the status. A storage host uses other types.
  private static func kind(_ cause: ProblemCause?, for call: Endpoint) -> APIError.Kind? {
    switch cause {
    case .creditsDepleted: .creditsDepleted
    case .capped: .capped
    case .rateLimited: .rateLimited
    case .credentials: call.carriesBytes ? nil : .credentials
    case .notFound: call.isAboutAJob && !call.carriesBytes ? .notFound : nil
    case .temporary: .temporary
    case .tooLarge: call.carriesBytes ? .tooLarge : nil
    case nil: nil
    }
  }

  private static func ofJSON(_ status: Int, _ call: Endpoint) -> APIError.Kind {
    switch status {
    // The job may have been created.
    case 200..<300 where call == .create: .temporary
    case 300..<400: .misdirected
    case 401, 403, 407: .credentials
    case 402: .creditsDepleted
    case 404, 410: call.isAboutAJob ? .notFound : .invalidRequest
    case 408, 425, 500...599: .temporary
    case 409:
      switch call {
      case .create, .cancel: .conflict
      case .list: .invalidRequest
      case .get, .upload, .session, .part, .download: .jobRefused
      }
    case 429: .rateLimited
    default: call.isAboutAJob ? .jobRefused : .invalidRequest
    }
  }

  /// Any other status of such a host concerns only the job whose URL was used.
  private static func ofBytes(_ status: Int, _ call: Endpoint) -> APIError.Kind {
    switch status {
    // In an upload in parts, an unexpected success tells nothing: the host is asked again.
    case 200..<300: call == .download ? .noResult : .temporary
    case 402: .creditsDepleted
    case 407: .credentials
    case 408, 425, 500...599: .temporary
    case 413 where call != .download: .tooLarge
    case 429: .rateLimited
    default: .urlRefused
    }
  }
}

/// The cause of an error by its problem type, or by its number in the old API.
enum ProblemCause: Sendable, Equatable {
  case notFound
  case credentials
  case creditsDepleted
  case capped
  case rateLimited
  case temporary
  case tooLarge

  /// - Parameter type: a word, or a URL whose last path component counts.
  init?(type: String) {
    switch type.split(separator: "/").last.map({ $0.lowercased() }) {
    case "resource-not-found", "resource-unavailable": self = .notFound
    case "not-authorized-for-resource", "not-authorized-for-field", "client-forbidden",
      "unsupported-authentication", "unauthorized":
      self = .credentials
    case "creditsdepleted", "credits-depleted", "credits": self = .creditsDepleted
    case "usage-capped", "usagecapexceeded", "usage-cap-exceeded", "spend-cap-reached",
      "spendcapreached":
      self = .capped
    case "rate-limit-exceeded", "too-many-requests": self = .rateLimited
    case "service-unavailable", "internal-error", "over-capacity": self = .temporary
    case "entitytoolarge": self = .tooLarge
    default: return nil
    }
  }

  /// - Parameter code: of the old API.
  init?(code: Int) {
    switch code {
    case 32, 89, 99, 215: self = .credentials
    case 88: self = .rateLimited
    case 130, 131: self = .temporary
    default: return nil
    }
  }
}
