internal import Foundation
internal import Synchronization

/// How often an App may call an endpoint: so many requests in a window that begins with its first.
///
/// The counts are the process's own: who restarts the server begins anew.
final class RateLimits: Sendable {
  /// What an App is told with every answer: `x-rate-limit-limit`, `-remaining` and `-reset`.
  struct Standing: Sendable, Equatable {
    let limit: Int
    let remaining: Int
    /// When the window ends, in seconds since 1970.
    let resetEpochSeconds: Int
    /// Whether the request was one too many.
    let isExceeded: Bool
  }

  private struct Key: Hashable {
    let app: AppID
    let endpoint: Endpoint
  }

  private struct Window {
    let resetEpochSeconds: Int
    var requests = 0
  }

  private let rule: ComplianceServer.RateLimit
  private let epochSeconds: @Sendable () -> Int
  /// At most one window for each App and endpoint.
  private let windows = Mutex<[Key: Window]>([:])

  init(_ rule: ComplianceServer.RateLimit, epochSeconds: @escaping @Sendable () -> Int) {
    self.rule = rule
    self.epochSeconds = epochSeconds
  }

  /// Counts a request. One that is too many is not counted.
  func count(_ endpoint: Endpoint, of app: AppID) -> Standing {
    let now = epochSeconds()
    return windows.withLock { windows in
      let key = Key(app: app, endpoint: endpoint)
      var window = windows[key] ?? Window(resetEpochSeconds: now + rule.windowSeconds)
      if window.resetEpochSeconds <= now {
        window = Window(resetEpochSeconds: now + rule.windowSeconds)
      }
      let isExceeded = window.requests >= rule.requestsMax
      if !isExceeded { window.requests += 1 }
      windows[key] = window
      return Standing(
        limit: rule.requestsMax, remaining: rule.requestsMax - window.requests,
        resetEpochSeconds: window.resetEpochSeconds, isExceeded: isExceeded)
    }
  }
}

/// The clock that rate limits are told by.
@Sendable func epochSeconds() -> Int {
  var now = timespec()
  clock_gettime(CLOCK_REALTIME, &now)
  return now.tv_sec
}
