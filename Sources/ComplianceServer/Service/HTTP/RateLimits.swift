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
    /// By the clock that only ever goes on.
    let endsAt: Duration
    var resetEpochSeconds: Int
    var requests = 0
  }

  /// The same moment by two clocks.
  struct Now: Sendable {
    /// Since 1970: what clients are told. It may be set, back as well.
    var sinceEpoch: Duration
    /// Since some moment or other; it only ever goes on, and windows end by it.
    var running: Duration
  }

  private let rule: ComplianceServer.RateLimit
  private let now: @Sendable () -> Now
  /// At most one window for each App and endpoint.
  private let windows = Mutex<[Key: Window]>([:])

  init(_ rule: ComplianceServer.RateLimit, now: @escaping @Sendable () -> Now = Now.read) {
    self.rule = rule
    self.now = now
  }

  /// Counts a request. One that is too many is not counted.
  func count(_ endpoint: Endpoint, of app: AppID) -> Standing {
    let now = now()
    return windows.withLock { windows in
      let key = Key(app: app, endpoint: endpoint)
      var window = windows[key] ?? newWindow(now)
      if window.endsAt <= now.running { window = newWindow(now) }
      // The clock that clients go by was set: the same moment has another name now.
      let reset = (now.sinceEpoch + (window.endsAt - now.running)).roundedUpSeconds
      if abs(reset - window.resetEpochSeconds) > 1 { window.resetEpochSeconds = reset }
      let isExceeded = window.requests >= rule.requestsMax
      if !isExceeded { window.requests += 1 }
      windows[key] = window
      return Standing(
        limit: rule.requestsMax, remaining: rule.requestsMax - window.requests,
        resetEpochSeconds: window.resetEpochSeconds, isExceeded: isExceeded)
    }
  }

  private func newWindow(_ now: Now) -> Window {
    let length = Duration.seconds(rule.windowSeconds)
    return Window(
      endsAt: now.running + length,
      resetEpochSeconds: (now.sinceEpoch + length).roundedUpSeconds)
  }
}

extension RateLimits.Now {
  @Sendable static func read() -> Self {
    Self(
      sinceEpoch: .seconds(Date.now.timeIntervalSince1970), running: begin.duration(to: .now))
  }

  /// Any moment: what counts is how far others are from it.
  private static let begin = ContinuousClock.now
}

extension Duration {
  fileprivate var roundedUpSeconds: Int {
    Int(components.seconds) + (components.attoseconds > 0 ? 1 : 0)
  }
}

/// The clock that clients are told by.
@Sendable func epochSeconds() -> Int {
  Int(Date.now.timeIntervalSince1970)
}
