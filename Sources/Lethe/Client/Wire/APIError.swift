public import Failures

/// A failed call of the API: an error answer, an unusable answer, or none.
///
/// Its text is safe to log: it never holds the token or a signed query.
public struct APIError: ExplainedError, Sendable {
  /// The kind of error, by which callers decide. `StatusTable` makes it from the status and the problem's type, never
  /// from the text.
  public enum Kind: Sendable, Equatable, CaseIterable {
    /// The request is wrong; a repeat would fail, too.
    case invalidRequest
    /// The token or the App's rights are refused. A person has to correct them.
    case credentials
    /// The App has no credits left.
    case creditsDepleted
    /// A daily or monthly cap is reached. It lasts longer than a rate limit's 15 minutes.
    case capped
    /// The API's address answers with a redirect.
    case misdirected
    /// A proxy refuses the credentials or the connection to the host.
    case proxyRefused
    /// The configured proxy does not use the configured protocol.
    case proxyMistaken
    /// The host requires a client certificate.
    case certificateWanted
    /// The TLS handshake failed, the certificate of the host or of an intercepting proxy is not trusted, or the
    /// configured certificates cannot be read.
    case untrusted
    /// The upload or download URL has expired or is for something else. A new job has a new URL.
    case urlRefused
    /// The API does not know the job.
    case notFound
    /// A permanent error of one job. A new job may succeed.
    case jobRefused
    /// Another job of the type is live.
    case conflict
    /// The chunk is too large.
    case tooLarge
    /// A rate limit that lasts longer than the longest wait.
    case rateLimited
    /// The storage host has stored something else, or does not confirm what it has stored.
    case unproven
    /// 5xx, no answer, or an unreadable one, after all attempts. It is not known whether the call took effect.
    case temporary
    /// The URL's host is not allowed by the definition, or the URL has http where the API has https. Nothing was sent.
    case hostNotAllowed
    /// The received result differs from its announced length or checksum.
    case incompleteResult
    /// The answer to a download is not a result: its status is not 200, or it is an HTML or XML page.
    case noResult
    /// A local file could not be written or read.
    case localFile
  }

  public let kind: Kind
  public let status: Int?
  /// The call that failed: `create job lethe-…`.
  public let operation: String
  /// The description of the failure, without the status.
  private let words: String
  private let ownRemedy: String?

  /// - Parameter remedy: nil for the kind's own remedy.
  public init(
    kind: Kind, status: Int? = nil, operation: String, message: String, remedy: String? = nil
  ) {
    ownRemedy = remedy
    self.kind = kind
    self.status = status
    self.operation = operation
    words = message
  }

  /// The description with the status.
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
