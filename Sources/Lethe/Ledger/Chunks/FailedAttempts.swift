public import Logging

extension ChunkLedger {
  /// Records that the attempt failed, as `jobFailed` does, and logs it with what happens to the chunk next.
  /// - Parameter isCounted: if false, this attempt and all earlier ones do not count towards `attemptsMax`.
  /// - Returns: whether there is another attempt.
  public func attemptFailed(
    _ attempt: Attempt, of chunk: Chunk, why: String, attemptsMax: Int, isCounted: Bool = true,
    stage: String, logger: Logger
  ) async throws -> Bool {
    let hasAnother = try await jobFailed(
      attempt, of: chunk, why: why, attemptsMax: attemptsMax, isCounted: isCounted)
    let next =
      hasAnother
      ? "the chunk gets another job"
      : "the chunk is set aside; the next lethe run asks about its IDs again"
    logger.warning(
      "\(chunk.label): attempt \(attempt.number) failed: \(why); \(next)",
      metadata: chunk.metadata(stage, job: attempt.apiID ?? attempt.name))
    return hasAnother
  }
}
