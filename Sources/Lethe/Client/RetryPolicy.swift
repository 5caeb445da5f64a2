/// How often a failed call is retried, and how long the delays are.
public struct RetryPolicy: Sendable {
  public let attemptsMax: Int
  public let delaySecondsFirst: Double
  public let delaySecondsMax: Double
  /// The longest total wait for a rate limit. Its window is 15 minutes.
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

  /// Returns an exponential delay. Its upper half is random, so that many clients do not retry at the same time.
  /// - Parameter attempt: the number of failed attempts; 1 after the first.
  public func delaySeconds(after attempt: Int) -> Double {
    var delay = delaySecondsFirst
    for _ in 1..<max(attempt, 1) where delay < delaySecondsMax { delay *= 2 }
    return min(delay, delaySecondsMax) * Double.random(in: 0.5...1)
  }
}
