import Foundation
import NIOHTTP1

/// What the API has said of its rate limits, by endpoint: 150 requests in 15 minutes each.
actor RateBudgets {
  private struct Budget {
    let remaining: Int
    let resetAt: Date
  }

  private var budgets: [Endpoint: Budget] = [:]

  /// Reads `x-rate-limit-remaining` and `-reset` (seconds since 1970) of an answer.
  func note(_ headers: HTTPHeaders, of endpoint: Endpoint) {
    guard let remaining = headers.first(name: "x-rate-limit-remaining").flatMap(Int.init),
      let reset = headers.first(name: "x-rate-limit-reset").flatMap(Double.init)
    else { return }
    budgets[endpoint] = Budget(
      remaining: remaining, resetAt: Date(timeIntervalSince1970: reset))
  }

  /// How long to wait before the endpoint may be called; 0 if it has requests left.
  func secondsToWait(for endpoint: Endpoint) -> Double {
    guard let budget = budgets[endpoint], budget.remaining <= 0 else { return 0 }
    return max(0, budget.resetAt.timeIntervalSinceNow)
  }

  /// The same after a 429, which may come without the headers.
  func secondsToWaitAfterRefusal(of endpoint: Endpoint) -> Double {
    guard let budget = budgets[endpoint] else { return 60 }
    return max(1, budget.resetAt.timeIntervalSinceNow)
  }
}

/// What the API counts requests by.
enum Endpoint: Hashable {
  case create
  case list
  case get
  case cancel
  case upload
  case download

  var carriesBytes: Bool {
    switch self {
    case .upload, .download: true
    case .create, .list, .get, .cancel: false
    }
  }
}
