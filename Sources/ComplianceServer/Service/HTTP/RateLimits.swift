internal import Foundation
internal import Synchronization

/// Limits how often an App may call an endpoint: a number of requests in a window of time. The first request starts
/// the window.
///
/// The counts are in memory. A restart of the server resets them.
final class RateLimits: Sendable {
  /// The values of the headers `x-rate-limit-limit`, `x-rate-limit-remaining` and `x-rate-limit-reset`.
  struct Quota: Sendable, Equatable {
    let limit: Int
    let remaining: Int
    /// When the window ends, in seconds since 1970.
    let resetEpochSeconds: Int
    /// Whether the request exceeded the limit.
    let isExceeded: Bool
  }

  private struct Key: Hashable {
    let app: AppID
    let endpoint: Endpoint
  }

  private struct Window {
    /// When the window ends, by the monotonic clock.
    let endsAt: Duration
    var resetEpochSeconds: Int
    var requests = 0
  }

  /// The current time of two clocks.
  struct ClockReading: Sendable {
    /// The time since 1970 by the wall clock, for the headers. The wall clock can be set back.
    var sinceEpoch: Duration
    /// The time by the monotonic clock, which decides when a window ends.
    var running: Duration
  }

  private let rule: ComplianceServer.RateLimit
  private let now: @Sendable () -> ClockReading
  /// At most one window for each App and endpoint.
  private let windows = Mutex<[Key: Window]>([:])

  init(
    _ rule: ComplianceServer.RateLimit,
    now: @escaping @Sendable () -> ClockReading = ClockReading.read
  ) {
    self.rule = rule
    self.now = now
  }

  /// Counts a request. A request that exceeds the limit is not counted.
  func count(_ endpoint: Endpoint, of app: AppID) -> Quota {
    let now = now()
    return windows.withLock { windows in
      let key = Key(app: app, endpoint: endpoint)
      var window = windows[key] ?? newWindow(now)
      if window.endsAt <= now.running { window = newWindow(now) }
      // If the wall clock was set in the meantime, the window ends at another wall-clock time.
      let reset = (now.sinceEpoch + (window.endsAt - now.running)).roundedUpSeconds
      if abs(reset - window.resetEpochSeconds) > 1 { window.resetEpochSeconds = reset }
      let isExceeded = window.requests >= rule.requestsMax
      if !isExceeded { window.requests += 1 }
      windows[key] = window
      return Quota(
        limit: rule.requestsMax, remaining: rule.requestsMax - window.requests,
        resetEpochSeconds: window.resetEpochSeconds, isExceeded: isExceeded)
    }
  }

  private func newWindow(_ now: ClockReading) -> Window {
    let length = Duration.seconds(rule.windowSeconds)
    return Window(
      endsAt: now.running + length,
      resetEpochSeconds: (now.sinceEpoch + length).roundedUpSeconds)
  }
}

extension RateLimits.ClockReading {
  @Sendable static func read() -> Self {
    Self(
      sinceEpoch: .seconds(Date.now.timeIntervalSince1970), running: origin.duration(to: .now))
  }

  /// An arbitrary origin, because only differences matter.
  private static let origin = ContinuousClock.now
}

extension Duration {
  fileprivate var roundedUpSeconds: Int {
    Int(components.seconds) + (components.attoseconds > 0 ? 1 : 0)
  }
}

/// Returns the seconds since 1970 by the wall clock, which the headers use.
@Sendable func epochSeconds() -> Int {
  Int(Date.now.timeIntervalSince1970)
}
