/// How often a failed call is retried, and how long the delays are.
public struct RetryPolicy: Sendable {
  public let attemptsMax: Int
  public let delaySecondsFirst: Double
  public let delaySecondsMax: Double
  /// The longest time that the failed attempts of a call and the delays between them take together. The attempts of an
  /// upload or a download do not count, because they can take long and still make progress.
  public let secondsMax: Double
  /// The longest total wait of a call that the server requires, by a rate limit or by `Retry-After`. The window of a
  /// rate limit is 15 minutes.
  public let rateLimitSecondsMax: Double
  /// How many retries the calls of a client may make together before `secondsPerRetry` limits them.
  public let burstMax: Int
  /// After the burst, the client makes one retry in this time.
  public let secondsPerRetry: Double
  private let random: @Sendable () -> Double

  /// - Parameter random: returns random numbers, at least 0 and less than 1.
  public init(
    attemptsMax: Int = 10, delaySecondsFirst: Double = 0.5, delaySecondsMax: Double = 60,
    secondsMax: Double = 300, rateLimitSecondsMax: Double = 1000, burstMax: Int = 20,
    secondsPerRetry: Double = 3, random: @escaping @Sendable () -> Double = { .random(in: 0..<1) }
  ) {
    self.attemptsMax = attemptsMax
    self.delaySecondsFirst = delaySecondsFirst
    self.delaySecondsMax = delaySecondsMax
    self.secondsMax = secondsMax
    self.rateLimitSecondsMax = rateLimitSecondsMax
    self.burstMax = burstMax
    self.secondsPerRetry = secondsPerRetry
    self.random = random
  }

  /// Returns a random delay between 0 and an exponential limit (full jitter), so that many clients do not retry at the
  /// same time.
  /// - Parameter attempt: the number of failed attempts; 1 after the first.
  public func delaySeconds(after attempt: Int) -> Double {
    var delay = delaySecondsFirst
    for _ in 1..<max(attempt, 1) where delay < delaySecondsMax { delay *= 2 }
    return min(delay, delaySecondsMax) * random()
  }
}
