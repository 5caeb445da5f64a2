public import Failures

/// A failed call of the API: an error response, an unusable response, or no response.
///
/// Its text is safe to log, because it never contains the token or a signed query.
public struct APIError: ExplainedError, Sendable {
  /// The kind of error. Callers decide by this kind. For an error response, `StatusTable` derives it from the status
  /// and from the problem's type, reason, title or code, never from other text.
  public enum Kind: Sendable, Equatable, CaseIterable {
    /// The request is wrong. A retry would fail, too.
    case invalidRequest
    /// The API refuses the token or the App's rights. A person must correct them.
    case credentials
    /// The App has no credits left.
    case creditsDepleted
    /// A daily or monthly cap is reached. It lasts longer than a rate limit's 15 minutes.
    case capped
    /// The API's address responds with a redirect.
    case redirected
    /// A proxy refuses the credentials or the connection to the host.
    case proxyRefused
    /// The configured proxy does not use the configured protocol.
    case wrongProxyProtocol
    /// The host requires a client certificate.
    case clientCertificateRequired
    /// The TLS handshake failed, the certificate of the host or of an intercepting proxy is not trusted, or the
    /// configured certificates cannot be read.
    case untrusted
    /// The host's name does not exist in DNS.
    case unknownHost
    /// The upload or download URL has expired or is for something else. A new job has a new URL.
    case urlRefused
    /// The API has no such job.
    case notFound
    /// A permanent error of one job. A new job might succeed.
    case jobRefused
    /// For a creation: another job of the type is `created` or `in_progress`. For a cancellation: the job has finished.
    case conflict
    /// The chunk is too large.
    case tooLarge
    /// A rate limit that lasts longer than the longest wait.
    case rateLimited
    /// The storage host has stored other bytes, or does not confirm what it has stored.
    case unconfirmed
    /// Status 5xx, 408 or 425, no response, or an incomplete or unreadable response. The API might have processed the
    /// call.
    case temporary
    /// The definition does not allow the URL's host, or the URL uses http although the API uses https. Nothing is sent.
    case hostNotAllowed
    /// The received result differs from its announced checksum, or cannot be decompressed completely.
    case incompleteResult
    /// The response to a download is not a result, such as an HTML page; is larger than any result of the job; has an
    /// unknown content coding; or has nothing that shows whether it is complete.
    case noResult
  }

  public let kind: Kind
  public let status: Int?
  /// The call that failed: `create job lethe-…`.
  public let operation: String
  /// The description of the failure, without the status.
  private let detail: String
  private let ownRemedy: String?

  /// - Parameter remedy: nil for the remedy of the kind.
  public init(
    kind: Kind, status: Int? = nil, operation: String, message: String, remedy: String? = nil
  ) {
    ownRemedy = remedy
    self.kind = kind
    self.status = status
    self.operation = operation
    detail = message
  }

  /// The description with the status.
  public var message: String { status.map { "HTTP \($0), \(detail)" } ?? detail }

  public var context: ErrorContext { ErrorContext(operation: operation) }

  public var disposition: Disposition {
    switch kind {
    case .credentials, .creditsDepleted, .proxyRefused, .clientCertificateRequired: .credentials
    case .temporary, .rateLimited, .capped, .conflict, .urlRefused: .temporary
    case .hostNotAllowed: .usage
    case .invalidRequest, .jobRefused, .redirected, .wrongProxyProtocol, .untrusted, .unknownHost,
      .notFound, .tooLarge, .unconfirmed, .incompleteResult, .noResult:
      .failed
    }
  }

  public var remedy: String {
    if let ownRemedy { return ownRemedy }
    return switch kind {
    case .invalidRequest: "report this error with its message, because the API might have changed"
    case .credentials:
      "check the Bearer token, and that its App is enrolled for Batch Compliance"
    case .creditsDepleted: "buy credits for the App, or raise its spending limit; then run again"
    case .capped: "wait for the cap's next period, or raise the cap; then run again"
    case .redirected:
      "check api.base_url, and that no proxy or captive portal intercepts the connection"
    case .proxyRefused:
      "check the proxy's address and credentials (api.proxy, HTTPS_PROXY), or add the host to NO_PROXY"
    case .wrongProxyProtocol:
      "correct the proxy's address and kind, http:// or socks5:// (api.proxy, HTTPS_PROXY)"
    case .clientCertificateRequired:
      """
      Lethe sends no client certificate: name a host that accepts the Bearer token alone (api.base_url), or your own \
      proxy that sends the certificate
      """
    case .untrusted:
      """
      if the issuer is your company, name the file of its certificate in api.ca_file or SSL_CERT_FILE; if not, \
      somebody might intercept the connection
      """
    case .unknownHost:
      "check the address (api.base_url, api.proxy) and this machine's name servers; then run again"
    case .urlRefused, .notFound, .jobRefused, .incompleteResult, .noResult, .unconfirmed:
      "run again: the chunk gets a new job"
    case .conflict:
      "wait for the other job of this type, or cancel it: lethe jobs list, lethe jobs cancel"
    case .tooLarge:
      "reduce the dataset's chunk.bytes; check whether a proxy limits the size of uploads"
    case .rateLimited: "run again later; let fewer programs share the App's rate limit"
    case .temporary: "run again: nothing is lost, and the run continues where it stopped"
    case .hostNotAllowed:
      "if the host is right, add it to api.allowed_hosts; http is allowed only if api.base_url uses http, too"
    }
  }
}
