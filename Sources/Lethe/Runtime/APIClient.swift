import Checksums
public import ComplianceAPI
public import Definitions
public import Logging
import Vocabulary

extension APISettings {
  /// Identifies the account whose slots the jobs use: digits of a hash of the URL and the token.
  var account: String {
    String(SHA256.hash("\(baseURL)\n\(token.exposed)").hexString.prefix(16))
  }

  /// Runs `body` with a client that has these settings. See `ComplianceClient.withClient`.
  public func withClient<R: Sendable>(
    permit: (any CallPermit)? = nil, retry: RetryPolicy = RetryPolicy(), logger: Logger,
    _ body: @Sendable (ComplianceClient) async throws -> R
  ) async throws -> R {
    try await ComplianceClient.withClient(
      baseURL: baseURL, token: token, allowedHosts: allowedHosts, profile: profile,
      network: network, permit: permit, retry: retry, logger: logger, body)
  }
}
