/// How often and how long apart a call is tried again.
public struct RetryPolicy: Sendable {
  public let attemptsMax: Int
  public let delaySecondsFirst: Double
  public let delaySecondsMax: Double
  /// The longest wait for a rate limit's reset: its window is 15 minutes.
  public let rateLimitSecondsMax: Double

  public init(
    attemptsMax: Int = 8, delaySecondsFirst: Double = 0.5, delaySecondsMax: Double = 60,
    rateLimitSecondsMax: Double = 1000
  ) {
    self.attemptsMax = attemptsMax
    self.delaySecondsFirst = delaySecondsFirst
    self.delaySecondsMax = delaySecondsMax
    self.rateLimitSecondsMax = rateLimitSecondsMax
  }

  /// Exponential, with full jitter on the upper half so that many clients do not come back at once.
  /// - Parameter attempt: how many have failed; the first is 1.
  public func delaySeconds(after attempt: Int) -> Double {
    var delay = delaySecondsFirst
    for _ in 1..<max(attempt, 1) where delay < delaySecondsMax { delay *= 2 }
    return min(delay, delaySecondsMax) * Double.random(in: 0.5...1)
  }
}
