import Foundation
import Logging
import NIOHTTP1

/// What the API has said of its rate limits, by endpoint: 150 requests in 15 minutes each.
actor RateBudgets {
  private struct Budget {
    let remaining: Int
    let resetAt: ContinuousClock.Instant
  }

  /// The window in which requests are counted, and so the longest that a limit lasts.
  static let windowSeconds = 900.0
  /// What comes without a word of when.
  private static let unsaidSeconds = 60.0

  private var budgets: [Endpoint: Budget] = [:]
  /// What `Retry-After` says, after an answer that has it.
  private var retryAt: [Endpoint: ContinuousClock.Instant] = [:]
  private let logger: Logger
  private var hasSaidOddness = false

  init(logger: Logger) {
    self.logger = logger
  }

  /// Reads `x-rate-limit-remaining` and `-reset` (seconds since 1970, by the server's clock) and `Retry-After` of an
  /// answer. What is not to be understood, or is not within a window, counts as a window's length at most.
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
      // What was done shows that a request was left, whatever a refusal before it has said.
      if (200..<300).contains(status) { budgets[endpoint] = nil }
      return
    }
    guard var reset = Double(text.trimmingCharacters(in: .whitespaces)), reset.isFinite else {
      say("x-rate-limit-reset", text)
      budgets[endpoint] = Budget(remaining: remaining, resetAt: now + .seconds(Self.unsaidSeconds))
      return
    }
    // Milliseconds: in seconds that would be after the year 5000.
    if (1e11..<1e14).contains(reset) { reset /= 1000 }
    let seconds = bounded(reset - serverNow.timeIntervalSince1970, "x-rate-limit-reset", text)
    budgets[endpoint] = Budget(remaining: remaining, resetAt: now + .seconds(seconds))
  }

  /// How long to wait before the endpoint may be called; 0 if it has requests left.
  func secondsToWait(for endpoint: Endpoint) -> Double {
    // The answer's own word on when to come again.
    if let retryAt = retryAt[endpoint] { return max(0, Self.secondsUntil(retryAt)) }
    guard let budget = budgets[endpoint], budget.remaining <= 0 else { return 0 }
    return max(0, Self.secondsUntil(budget.resetAt))
  }

  /// The same after a refusal, which may come without the headers.
  func secondsToWaitAfterRefusal(of endpoint: Endpoint) -> Double {
    if let retryAt = retryAt[endpoint] { return max(1, Self.secondsUntil(retryAt)) }
    guard let budget = budgets[endpoint] else { return Self.unsaidSeconds }
    return max(1, Self.secondsUntil(budget.resetAt))
  }

  /// What an answer that asks to come later says of when; 0 if it does not.
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
    if seconds > Self.windowSeconds + 60 { say(header, text) }
    return min(max(seconds, 0), Self.windowSeconds)
  }

  /// Once: it may come with each answer.
  private func say(_ header: String, _ text: String) {
    guard !hasSaidOddness else { return }
    hasSaidOddness = true
    let shown = String(text.prefix(40).filter { $0.isASCII && !$0.isNewline })
    logger.warning(
      """
      the API's \(header) is \(shown), which is no time within its window of 15 minutes: it is waited for no longer \
      than that
      """)
  }
}

/// What the API counts requests by.
enum Endpoint: Hashable, CaseIterable {
  case create
  case list
  case get
  case cancel
  case upload
  /// The begin of an upload in parts.
  case session
  case part
  case download

  /// Whether an answer is about one job, and not about what is asked.
  var isAboutAJob: Bool {
    switch self {
    case .get, .cancel, .upload, .session, .part, .download: true
    case .create, .list: false
    }
  }

  var carriesBytes: Bool {
    switch self {
    case .upload, .session, .part, .download: true
    case .create, .list, .get, .cancel: false
    }
  }
}
