/// The name of an endpoint in rate limits, fault plans, metrics and the access log.
enum Endpoint: String, Sendable, CaseIterable {
  case create
  case list
  case get
  case cancel
  case upload
  case download
  /// The start or the cancellation of a resumable upload.
  case session
  case openapi
  case health
  case live
  case ready
  case metrics
  case status
  case faults
  /// A path that is no endpoint of this server, or a method that its path does not allow.
  case unknown
}
