/// An answer of the API, or the lack of one, that is not what was asked for.
///
/// Its text is safe to log: it never holds the token or a signed query.
public struct APIError: Error, Sendable, CustomStringConvertible {
  /// What to do about it; from the HTTP status, never from the text.
  public enum Kind: Sendable, Equatable {
    /// 400: the request is wrong, and will be wrong again.
    case invalidRequest
    /// 401 or 403 on the API itself: the credentials, or the App's rights, are for a person to mend.
    case credentials
    /// 401 or 403 on a byte URL: it has expired or is for something else. A new job has a new one.
    case urlRefused
    /// 404: the job is not known.
    case notFound
    /// 409: the type's one slot is taken.
    case conflict
    /// 413: the chunk is too large.
    case tooLarge
    /// 429, longer than was worth waiting for.
    case rateLimited
    /// 5xx, no answer, or an unreadable one, after all tries. Whether it took effect is not known.
    case temporary
    /// A URL of a host that the definition does not allow. Nothing was sent there.
    case hostNotAllowed
    /// The result that came is not the result that was sent.
    case incompleteResult
    /// What came in answer to a download is no result: another status than 200, or a page.
    case noResult
    /// This machine could not write or read the bytes.
    case localFile
  }

  public let kind: Kind
  public let status: Int?
  /// What was tried: `create job lethe-…`.
  public let operation: String
  public let message: String

  public init(kind: Kind, status: Int? = nil, operation: String, message: String) {
    self.kind = kind
    self.status = status
    self.operation = operation
    self.message = message
  }

  public var description: String {
    "\(operation): \(status.map { "HTTP \($0), " } ?? "")\(message)\n  remedy: \(remedy)"
  }

  public var remedy: String {
    switch kind {
    case .invalidRequest: "report it with this message: the API may have changed"
    case .credentials:
      "check the Bearer token, and that its App is enrolled for Batch Compliance"
    case .urlRefused, .notFound, .incompleteResult, .noResult: "run again: the chunk gets a new job"
    case .conflict:
      "wait for the other job of this type, or end it: lethe jobs list, lethe jobs cancel"
    case .tooLarge: "make the dataset's chunk.bytes smaller"
    case .rateLimited: "run again later; fewer programs should share the App's rate limit"
    case .temporary: "run again: nothing is lost, and the run goes on where it stood"
    case .hostNotAllowed: "if the host is right, add it to api.allowed_hosts"
    case .localFile:
      "check the free space and permissions of the work directory, or name another one: --work-dir DIR"
    }
  }
}
