import Foundation
import Logging
import NIOCore
import NIOHTTP1
import Synchronization
import TestFiles
import Testing
import Vocabulary

@testable import ComplianceAPI

/// The delays of retries, and the limits of their number and time.
@Suite struct RetryTests {
  /// Random numbers from a seed.
  private static func seeded(_ seed: UInt64) -> @Sendable () -> Double {
    let generator = Mutex(SeededGenerator(seed: seed))
    return { generator.withLock { Double.random(in: 0..<1, using: &$0) } }
  }

  /// Full jitter: each delay is anywhere between 0 and an exponential limit.
  @Test(arguments: [3, SeededGenerator.seedOfTest()])
  func aDelayIsUniformUpToAnExponentialLimit(seed: UInt64) {
    let policy = RetryPolicy(random: Self.seeded(seed))
    for (attempt, limit) in [(0, 0.5), (1, 0.5), (2, 1), (4, 4), (7, 32), (8, 60), (1000, 60)] {
      let delays = (0..<2000).map { _ in policy.delaySeconds(after: attempt) }
      #expect(delays.allSatisfy { (0..<limit).contains($0) }, "seed \(seed)")
      for quarter in 0..<4 {
        let range = limit * Double(quarter) / 4..<limit * Double(quarter + 1) / 4
        let count = delays.count { range.contains($0) }
        #expect((380...620).contains(count), "seed \(seed), attempt \(attempt): \(count)")
      }
    }
  }

  @Test func theRetriesOfAllCallsHaveOneRate() async {
    let start = ContinuousClock.now
    let budget = RetryBudget(RetryPolicy(burstMax: 5, secondsPerRetry: 3), now: start)
    func waits(_ count: Int, _ now: ContinuousClock.Instant) async -> [Double] {
      var waits: [Double] = []
      for _ in 0..<count { waits.append((await budget.secondsToWait(now: now)).rounded()) }
      return waits
    }
    #expect(await waits(8, start) == [0, 0, 0, 0, 0, 3, 6, 9])
    // After 15 s, the three retries that waited are done, and two more are free.
    #expect(await waits(3, start + .seconds(15)) == [0, 0, 3])
    for _ in 0..<3 { await budget.succeeded() }
    #expect(await waits(3, start + .seconds(15)) == [0, 0, 3])
    for _ in 0..<100 { await budget.succeeded() }
    #expect(await waits(6, start + .seconds(15)) == [0, 0, 0, 0, 0, 3])
  }

  private static func client(
    _ retry: RetryPolicy, _ budgets: RateBudgets? = nil
  ) async throws -> ComplianceClient {
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    return ComplianceClient(
      transport: try Transport(.init()), baseURL: "http://127.0.0.1:1", token: .init("t"),
      allowedHosts: [], retry: retry, logger: logger,
      budgets: budgets ?? RateBudgets(logger: logger),
      retries: RetryBudget(retry), clock: ServerClock(logger: logger), profile: .init(.auto),
      permit: nil)
  }

  private static func attempts(
    _ retry: RetryPolicy, _ endpoint: Endpoint = .get, isRepeatable: Bool = true,
    hasProgressed: (Int) -> Bool = { _ in false }, succeedsAt: Int = .max
  ) async throws -> Int {
    let client = try await client(retry)
    var count = 0
    do {
      try await client.repeated(
        endpoint, operation: "test", isRepeatable: isRepeatable,
        hasProgressed: { hasProgressed(count) }
      ) {
        count += 1
        if count < succeedsAt { throw NoResponse(message: "none") }
      }
      #expect(count == succeedsAt)
    } catch let error as APIError {
      #expect(error.kind == .temporary && error.operation == "test")
    }
    try await client.transport.shutdown()
    return count
  }

  @Test func theNumberAndTheTimeOfRetriesAreLimited() async throws {
    func policy(_ attempts: Int, _ seconds: Double) -> RetryPolicy {
      RetryPolicy(
        attemptsMax: attempts, delaySecondsFirst: 0.002, delaySecondsMax: 0.002,
        secondsMax: seconds, random: { 0.5 })
    }
    #expect(try await Self.attempts(policy(5, 100)) == 5)
    #expect(try await Self.attempts(policy(5, 100), succeedsAt: 3) == 3)
    #expect(try await Self.attempts(policy(5, 100), .create, isRepeatable: false) == 1)
    // The delay of 1 ms does not fit into the time.
    #expect(try await Self.attempts(policy(5, 0.0005)) == 1)
    // Each failed attempt takes time. The time of a transfer does not count, but its delays do.
    #expect(try await Self.attempts(policy(1000, 0.0205), .download) == 21)
    #expect(try await Self.attempts(policy(1000, 0.0205)) <= 21)
  }

  /// A policy that may not wait for a rate limit, as that of `lethe check`, makes no call instead.
  @Test func aCallIsRefusedIfTheRateLimitNeedsALongerWaitThanThePolicyAllows() async throws {
    let budgets = RateBudgets(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let now = Date(timeIntervalSince1970: 1_790_000_000)
    await budgets.note(
      ["x-rate-limit-remaining": "0", "x-rate-limit-reset": "1790000600"], status: 200,
      of: .list, serverNow: now)
    let client = try await Self.client(RetryPolicy(rateLimitSecondsMax: 0), budgets)
    var calls = 0
    let error = await #expect(throws: APIError.self) {
      try await client.repeated(.list, operation: "test", isRepeatable: true) { calls += 1 }
    }
    #expect(error?.kind == .rateLimited && calls == 0)
    try await client.repeated(.get, operation: "test", isRepeatable: true) { calls += 1 }
    #expect(calls == 1)
    try await client.transport.shutdown()
  }

  @Test func anAttemptWithProgressIsNotCounted() async throws {
    let policy = RetryPolicy(
      attemptsMax: 3, delaySecondsFirst: 0.001, delaySecondsMax: 0.001, random: { 0 })
    #expect(try await Self.attempts(policy, .download) == 3)
    #expect(try await Self.attempts(policy, .download, hasProgressed: { $0 <= 10 }) == 12)
  }

  @Test(
    arguments: [
      (0, .found), (EAI_NONAME, .unknown), (-5, .unknown),
      (EAI_AGAIN, .failed("temporary failure in name resolution")),
      (EAI_FAIL, .failed("non-recoverable failure in name resolution")),
    ] as [(Int32, NameLookup.Outcome)])
  func onlyANameThatDoesNotExistIsUnknown(code: Int32, outcome: NameLookup.Outcome) {
    #expect(NameLookup.outcome(of: code) == outcome)
  }

  @Test(
    arguments: [
      (ECONNREFUSED, .refused), (ECONNRESET, .reset), (EPIPE, .closed),
      (EHOSTUNREACH, .unreachable),
      (ENETUNREACH, .unreachable), (ETIMEDOUT, .connectTimeout), (EIO, nil),
    ] as [(Int32, ConnectionFailure?)])
  func anErrorOfTheSystemHasACause(code: Int32, failure: ConnectionFailure?) {
    #expect(ConnectionFailure(IOError(errnoCode: code, reason: "test")) == failure)
  }
}
