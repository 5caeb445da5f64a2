/// Limits the retries of all calls of a client together. During an outage all calls fail, and without this limit each
/// of them would call the API again on its own.
///
/// A number of retries is free (`RetryPolicy.burstMax`). After these, there is one retry in `secondsPerRetry`. Each
/// successful call makes one more retry free.
actor RetryBudget {
  private let burst: Double
  private let secondsPerRetry: Double
  /// The retries that are free now. Negative if retries wait.
  private var free: Double
  private var updatedAt: ContinuousClock.Instant

  init(_ policy: RetryPolicy, now: ContinuousClock.Instant = .now) {
    burst = Double(policy.burstMax)
    secondsPerRetry = policy.secondsPerRetry
    free = burst
    updatedAt = now
  }

  /// Reserves a retry.
  /// - Returns: how many seconds the retry must wait.
  func secondsToWait(now: ContinuousClock.Instant = .now) -> Double {
    free = min(burst, free + (now - updatedAt) / .seconds(secondsPerRetry)) - 1
    updatedAt = now
    return max(0, -free * secondsPerRetry)
  }

  func succeeded() {
    free = min(burst, free + 1)
  }
}
