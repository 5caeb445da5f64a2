/// The meaning of a response's status and problem type for a call.
///
/// docs/reference/api-outcomes.md shows it as a table, with the effects on the chunk and the run. Sources: X's
/// documentation of errors and problems, and Google Cloud Storage's XML API for the storage host.
enum StatusTable {
  /// Whether the status means success for this call.
  static func isSuccess(_ status: Int, of call: Endpoint) -> Bool {
    switch call {
    case .create, .list, .get, .session: status == 200 || status == 201
    // A response with 308 contains the number of stored bytes.
    case .part: status == 200 || status == 201 || status == 308
    case .cancel, .upload: (200..<300).contains(status)
    case .download: status == 200
    }
  }

  /// The kind of error for a response without success.
  static func kind(_ status: Int?, _ cause: ProblemCause?, for call: Endpoint) -> APIError.Kind {
    if let kind = kind(cause, for: call) { return kind }
    guard let status else { return call.isAboutAJob ? .jobRefused : .invalidRequest }
    return call.carriesBytes ? ofBytes(status, call) : ofJSON(status, call)
  }

  /// The kind of error by the problem type, which has priority over the status. Nil if the status decides. In an upload
  /// or a download, refused credentials and a missing object concern only the URL, so the status decides.
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
    // The API might have created the job.
    case 200..<300 where call == .create: .temporary
    case 300..<400: .redirected
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

  /// The kind of error of an upload or download. A status that is not in the list concerns only the URL's job.
  private static func ofBytes(_ status: Int, _ call: Endpoint) -> APIError.Kind {
    switch status {
    // In an upload in parts, an unexpected success does not show that the bytes are stored. So the host is asked again.
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

  /// - Parameter type: a word, or a URL. Only the last path component of a URL counts.
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

  /// - Parameter code: an error number of the old API.
  init?(code: Int) {
    switch code {
    case 32, 89, 99, 215: self = .credentials
    case 88: self = .rateLimited
    case 130, 131: self = .temporary
    default: return nil
    }
  }
}
