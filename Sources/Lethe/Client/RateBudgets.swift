import Foundation
import Logging
import NIOHTTP1

/// The API's rate limits by endpoint, read from its responses. Each endpoint accepts 150 requests in 15 minutes.
actor RateBudgets {
  private struct Budget {
    let remaining: Int
    let resetAt: ContinuousClock.Instant
  }

  /// The window in which the API counts requests. No rate limit lasts longer.
  static let windowSeconds = 900.0
  /// The wait if a limit is reached and the response has no readable time.
  private static let defaultSeconds = 60.0

  private var budgets: [Endpoint: Budget] = [:]
  /// The time in the last response's `Retry-After`.
  private var retryAt: [Endpoint: ContinuousClock.Instant] = [:]
  private let logger: Logger
  private var hasWarned = false

  init(logger: Logger) {
    self.logger = logger
  }

  /// Reads a response's `x-rate-limit-remaining` and `x-rate-limit-reset` (seconds since 1970, by the server's clock).
  /// With status 429 or 503, it also reads `Retry-After`. A time after the end of the window is treated as the end of
  /// the window. An unreadable `x-rate-limit-reset` counts as a reset in `defaultSeconds`.
  func note(_ headers: HTTPHeaders, status: Int, of endpoint: Endpoint, serverNow: Date) {
    let now = ContinuousClock.now
    retryAt[endpoint] = nil
    if status == 429 || status == 503, let text = headers.first(name: "retry-after"),
      let seconds = Self.seconds(ofRetryAfter: text, serverNow)
    {
      retryAt[endpoint] = now + .seconds(bounded(seconds, "Retry-After", text))
    }
    guard
      let remaining = headers.first(name: "x-rate-limit-remaining").flatMap({
        Int($0.trimmingCharacters(in: .whitespaces))
      }), let text = headers.first(name: "x-rate-limit-reset")
    else {
      // A success shows that the endpoint accepts requests, even if an earlier response contained a limit.
      if (200..<300).contains(status) { budgets[endpoint] = nil }
      // A refusal after the reset shows that the budget is not the reason.
      if status == 429, let budget = budgets[endpoint], Self.secondsUntil(budget.resetAt) <= 0 {
        budgets[endpoint] = nil
      }
      return
    }
    guard var reset = Double(text.trimmingCharacters(in: .whitespaces)), reset.isFinite else {
      warnOnce("x-rate-limit-reset", text, "waits \(Int(Self.defaultSeconds)) s")
      budgets[endpoint] = Budget(remaining: remaining, resetAt: now + .seconds(Self.defaultSeconds))
      return
    }
    // A value of this size is in milliseconds, because in seconds it would be after the year 5000.
    if (1e11..<1e14).contains(reset) { reset /= 1000 }
    let seconds = bounded(reset - serverNow.timeIntervalSince1970, "x-rate-limit-reset", text)
    budgets[endpoint] = Budget(remaining: remaining, resetAt: now + .seconds(seconds))
  }

  /// The wait before the endpoint may be called. It ends at the time in `Retry-After`. Without this header, it ends at
  /// the reset if no requests are left, and otherwise it is 0.
  func secondsToWait(for endpoint: Endpoint) -> Double {
    // Retry-After has priority over the rate limit's headers.
    if let retryAt = retryAt[endpoint] { return max(0, Self.secondsUntil(retryAt)) }
    guard let budget = budgets[endpoint], budget.remaining <= 0 else { return 0 }
    return max(0, Self.secondsUntil(budget.resetAt))
  }

  /// The wait after a call that a rate limit refused, even if its response has no rate limit headers and no
  /// `Retry-After`.
  func secondsToWaitAfterRefusal(of endpoint: Endpoint) -> Double {
    if let retryAt = retryAt[endpoint] { return max(1, Self.secondsUntil(retryAt)) }
    guard let budget = budgets[endpoint] else { return Self.defaultSeconds }
    return max(1, Self.secondsUntil(budget.resetAt))
  }

  /// The wait that the last response's `Retry-After` requires. 0 without this header.
  func secondsOfRetryAfter(_ endpoint: Endpoint) -> Double {
    retryAt[endpoint].map { max(0, Self.secondsUntil($0)) } ?? 0
  }

  private static func secondsUntil(_ instant: ContinuousClock.Instant) -> Double {
    (instant - .now) / .seconds(1)
  }

  private static func seconds(ofRetryAfter text: String, _ serverNow: Date) -> Double? {
    let text = text.trimmingCharacters(in: .whitespaces)
    if let seconds = Double(text), seconds.isFinite { return seconds }
    return HTTPDate.date(text)?.timeIntervalSince(serverNow)
  }

  private func bounded(_ seconds: Double, _ header: String, _ text: String) -> Double {
    if seconds > Self.windowSeconds + 60 { warnOnce(header, text, "waits 15 minutes at most") }
    return min(max(seconds, 0), Self.windowSeconds)
  }

  /// Logs only one warning, because each response might have the same value.
  /// - Parameter consequence: what Lethe does instead.
  private func warnOnce(_ header: String, _ text: String, _ consequence: String) {
    guard !hasWarned else { return }
    hasWarned = true
    let shown = String(text.prefix(40).filter { $0.isASCII && !$0.isNewline })
    logger.warning(
      """
      the API's \(header) is "\(shown)", which is not a time within the window of 15 minutes; Lethe \
      \(consequence)
      """)
  }
}

/// The kinds of calls. The API counts its requests by endpoint.
enum Endpoint: Hashable, CaseIterable {
  case create
  case list
  case get
  case cancel
  case upload
  /// The start of an upload in parts.
  case session
  case part
  case download

  /// Whether the call is about one existing job.
  var isAboutAJob: Bool {
    switch self {
    case .get, .cancel, .upload, .session, .part, .download: true
    case .create, .list: false
    }
  }

  /// Whether the call changes something at the API.
  var hasEffect: Bool {
    switch self {
    case .create, .cancel, .upload, .session, .part: true
    case .list, .get, .download: false
    }
  }

  var carriesBytes: Bool {
    switch self {
    case .upload, .session, .part, .download: true
    case .create, .list, .get, .cancel: false
    }
  }
}
