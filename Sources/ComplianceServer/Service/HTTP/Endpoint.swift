/// What a request is for: the word that rate limits, fault plans, metrics and the access log know it by.
enum Endpoint: String, Sendable, CaseIterable {
  case create
  case list
  case get
  case cancel
  case upload
  case download
  /// The begin of a resumable upload.
  case session
  case openapi
  case health
  case live
  case ready
  case metrics
  case status
  case faults
  /// Nothing that is served here.
  case unknown
}
