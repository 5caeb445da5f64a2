import NIOHTTP1
import Synchronization
import TestSupport
import Testing

@testable import ComplianceService

@Suite(.endedIfItHangs) struct RateLimitTests {
  @Test func theLimitAppliesToEachAppAndEndpoint() async throws {
    try await LocalService.run {
      $0.rateLimit = .init(requestsMax: 3)
    } _: { service in
      let path = "\(LocalService.jobsPath)?type=tweets"
      var resets: Set<String> = []
      for remaining in ["2", "1", "0"] {
        let response = try await service.get(path)
        #expect(response.status == 200)
        #expect(response.headers.first(name: "x-rate-limit-limit") == "3")
        #expect(response.headers.first(name: "x-rate-limit-remaining") == remaining)
        resets.insert(try #require(response.headers.first(name: "x-rate-limit-reset")))
      }
      // The window began with the first request and does not move.
      #expect(resets.count == 1)
      let refused = try await service.get(path)
      let problem = try refused.problem()
      #expect(problem.status == 429 && problem.kind == "too-many-requests")
      #expect(refused.headers.first(name: "x-rate-limit-remaining") == "0")
      #expect(refused.headers.first(name: "x-rate-limit-reset") == resets.first)
      #expect(refused.headers.first(name: "api-version") != nil)

      #expect(try await service.get(path, token: LocalService.otherToken).status == 200)
      let job = try await service.create()
      #expect(try await service.job(job.id) == job)
      // Refused requests count, too.
      for _ in 1...2 { #expect(try await service.post("{}").status == 400) }
      #expect(try await service.post("{}").status == 429)
      // An unauthenticated request has no rate limit headers.
      for _ in 1...5 {
        let unauthenticated = try await service.get(path, token: "nobody")
        #expect(unauthenticated.status == 401)
        #expect(unauthenticated.headers["x-rate-limit-limit"].isEmpty)
      }
    }
  }

  @Test func theDefaultLimitIsTheLimitOfX() async throws {
    try await LocalService.run { service in
      let path = "\(LocalService.jobsPath)?type=users"
      for _ in 1...150 {
        let response = try await service.get(path)
        #expect(response.status == 200)
      }
      #expect(try await service.get(path).status == 429)
    }
  }

  @Test func aWindowEndsAfterItsDuration() {
    let clock = Clock()
    func quota() -> RateLimits.Quota { clock.limits.count(.list, of: clock.app) }
    #expect(quota().resetEpochSeconds == 1900)
    clock.advance(800)
    #expect(quota().resetEpochSeconds == 1900)
    #expect(quota().isExceeded)
    clock.advance(99)
    #expect(quota().isExceeded)
    clock.advance(1)
    let next = quota()
    #expect(!next.isExceeded && next.remaining == 1 && next.resetEpochSeconds == 2800)
  }

  /// - Parameter seconds: the change of the wall clock in the middle of a window.
  @Test(arguments: [-86_400, -901, -60, 60, 901, 86_400])
  func aClockChangeDoesNotChangeTheWindow(_ seconds: Int) {
    let clock = Clock()
    func quota() -> RateLimits.Quota { clock.limits.count(.list, of: clock.app) }
    _ = (quota(), quota())
    clock.advance(400)
    clock.set(seconds)
    let afterChange = quota()
    #expect(afterChange.isExceeded)
    // The window still ends at the same instant. The changed wall clock shows another time for it.
    #expect(afterChange.resetEpochSeconds == 1900 + seconds)
    clock.advance(499)
    #expect(quota().isExceeded)
    clock.advance(1)
    #expect(!quota().isExceeded)
    #expect(quota().resetEpochSeconds == 2800 + seconds)
  }

  /// A limit of two requests in 900 seconds, and a wall clock that starts 1000 seconds after the epoch.
  private struct Clock {
    /// Contains the mutex, so that a closure can share it.
    private final class Shared: Sendable {
      let now = Mutex(RateLimits.ClockReading(sinceEpoch: .seconds(1000), running: .seconds(7)))
    }

    let app = AppToken("app").app
    let limits: RateLimits
    private let shared = Shared()

    init() {
      limits = RateLimits(.init(requestsMax: 2, windowSeconds: 900)) { [shared] in
        shared.now.withLock { $0 }
      }
    }

    func advance(_ seconds: Int) {
      set(seconds)
      shared.now.withLock { $0.running += .seconds(seconds) }
    }

    func set(_ seconds: Int) { shared.now.withLock { $0.sinceEpoch += .seconds(seconds) } }
  }
}
