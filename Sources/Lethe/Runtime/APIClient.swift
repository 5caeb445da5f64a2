public import ComplianceAPI
public import Definitions
public import Logging

extension APISettings {
  /// Runs `body` with a client of this API; see `ComplianceClient.withClient`.
  public func withClient<R: Sendable>(
    permit: (any CallPermit)? = nil, retry: RetryPolicy = RetryPolicy(), logger: Logger,
    _ body: @Sendable (ComplianceClient) async throws -> R
  ) async throws -> R {
    try await ComplianceClient.withClient(
      baseURL: baseURL, token: token, allowedHosts: allowedHosts, profile: profile,
      network: network, permit: permit, retry: retry, logger: logger, body)
  }
}
