public import Failures

/// An answer of the API, or the lack of one, that is not what was asked for.
///
/// Its text is safe to log: it never holds the token or a signed query.
public struct APIError: ExplainedError, Sendable {
  /// What to do about it; from the status and the type of the problem, never from the text. Which means which is in
  /// `StatusTable`.
  public enum Kind: Sendable, Equatable, CaseIterable {
    /// The request is wrong, and will be wrong again.
    case invalidRequest
    /// The token, or the App's rights, are for a person to mend.
    case credentials
    /// The App has no credits left.
    case creditsDepleted
    /// A cap of a day or a month is reached: not for a quarter of an hour, as a rate limit is.
    case capped
    /// The API's address leads elsewhere: a redirect.
    case misdirected
    /// A proxy wants other credentials, or does not lead to the host.
    case proxyRefused
    /// What is named as a proxy does not speak as one of its kind.
    case proxyMistaken
    /// The host wants a certificate of its clients.
    case certificateWanted
    /// TLS does not come about, or nobody vouches for the host: its certificate, or that of somebody between; or the certificates that are to be
    /// trusted cannot be read.
    case untrusted
    /// A byte URL that has expired or is for something else. A new job has a new one.
    case urlRefused
    /// The job is not known.
    case notFound
    /// An answer about one job that no repeat mends. A new job may fare better.
    case jobRefused
    /// The type's one slot is taken.
    case conflict
    /// The chunk is too large.
    case tooLarge
    /// A rate limit, longer than was worth waiting for.
    case rateLimited
    /// The storage host has something else than was sent, or does not say what it has.
    case unproven
    /// 5xx, no answer, or an unreadable one, after all tries. Whether it took effect is not known.
    case temporary
    /// A URL of a host that the definition does not allow, or over http where the API is https. Nothing was sent there.
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
  /// What came instead.
  private let words: String
  private let ownRemedy: String?

  /// - Parameter remedy: where it is another one than the kind's.
  public init(
    kind: Kind, status: Int? = nil, operation: String, message: String, remedy: String? = nil
  ) {
    ownRemedy = remedy
    self.kind = kind
    self.status = status
    self.operation = operation
    words = message
  }

  /// What came, with its status.
  public var message: String { status.map { "HTTP \($0), \(words)" } ?? words }

  public var context: ErrorContext { ErrorContext(operation: operation) }

  public var disposition: Disposition {
    switch kind {
    case .credentials, .creditsDepleted, .proxyRefused, .certificateWanted: .credentials
    case .temporary, .rateLimited, .capped, .conflict, .urlRefused: .temporary
    case .hostNotAllowed: .usage
    case .invalidRequest, .jobRefused, .misdirected, .proxyMistaken, .untrusted, .notFound,
      .tooLarge, .unproven, .incompleteResult, .noResult, .localFile:
      .failed
    }
  }

  public var remedy: String {
    if let ownRemedy { return ownRemedy }
    return switch kind {
    case .invalidRequest: "report it with this message: the API may have changed"
    case .credentials:
      "check the Bearer token, and that its App is enrolled for Batch Compliance"
    case .creditsDepleted: "buy credits for the App, or raise its limit of spending; then run again"
    case .capped: "wait for the cap's next period, or have it raised; then run again"
    case .misdirected:
      "see whether api.base_url is right, and whether a proxy or a portal is in the way"
    case .proxyRefused:
      "check the proxy's address and credentials (api.proxy, HTTPS_PROXY), or except the host: NO_PROXY"
    case .proxyMistaken:
      "name the proxy's address and kind as they are, http:// or socks5:// (api.proxy, HTTPS_PROXY)"
    case .certificateWanted:
      """
      Lethe shows none: name a host that takes the Bearer token alone (api.base_url), or a proxy of yours that shows the \
      certificate for it
      """
    case .untrusted:
      """
      if the issuer is your company's, name the file of its certificate by api.ca_file or SSL_CERT_FILE; if not, somebody \
      may be reading along
      """
    case .urlRefused, .notFound, .jobRefused, .incompleteResult, .noResult, .unproven:
      "run again: the chunk gets a new job"
    case .conflict:
      "wait for the other job of this type, or end it: lethe jobs list, lethe jobs cancel"
    case .tooLarge:
      "make the dataset's chunk.bytes smaller; see whether a proxy on the way limits uploads"
    case .rateLimited: "run again later; fewer programs should share the App's rate limit"
    case .temporary: "run again: nothing is lost, and the run goes on where it stood"
    case .hostNotAllowed:
      "if the host is right, add it to api.allowed_hosts; over http, bytes go only where the API is http, too"
    case .localFile:
      "check the free space and permissions of the work directory, or name another one: --work-dir DIR"
    }
  }
}
