import Foundation
import Logging
import NIOHTTP1
import Synchronization
import Testing

@testable import ComplianceAPI

/// The effects of a response's headers, including unusual headers.
@Suite struct ResponseHeaderTests {
  private final class LogCounter: LogHandler, Sendable {
    private let lines = Mutex<[String]>([])
    var count: Int { lines.withLock { $0.count } }
    var last: String? { lines.withLock { $0.last } }
    var logLevel: Logger.Level {
      get { .trace }
      set {}
    }
    var metadata: Logger.Metadata {
      get { [:] }
      set {}
    }
    subscript(metadataKey _: String) -> Logger.Metadata.Value? {
      get { nil }
      set {}
    }
    func log(event: LogEvent) { lines.withLock { $0.append("\(event.message)") } }
  }

  /// Each argument is the text of `x-rate-limit-reset`, with the shortest and the longest expected wait in seconds.
  /// `+100` and `-100` stand for the time 100 seconds after and before now, in seconds since the epoch. `ms+100` is the
  /// same as `+100` in milliseconds.
  @Test(
    arguments: [
      ("inf", 60, 60), ("-inf", 60, 60), ("nan", 60, 60), ("1e300", 890, 900), ("-1e300", 0, 1),
      ("tomorrow", 60, 60), ("", 60, 60), ("+4000", 890, 900), ("+100", 90, 100), ("-100", 0, 1),
      ("ms+100", 90, 100), ("99999999999999999999", 890, 900), ("0", 0, 1),
    ] as [(String, Double, Double)])
  func theClientWaitsAtMost900SecondsForTheReset(text: String, least: Double, most: Double) async {
    let log = LogCounter()
    let budgets = RateBudgets(logger: Logger(label: "test") { _ in log })
    let now = Date(timeIntervalSince1970: 1_790_000_000)
    var value = text
    if let seconds = Double(text.replacing("ms", with: "")), text.contains("+") || text == "-100" {
      let reset = now.timeIntervalSince1970 + seconds
      value = text.hasPrefix("ms") ? "\(Int(reset * 1000))" : "\(Int(reset))"
    }
    for _ in 1...3 {
      await budgets.note(
        ["x-rate-limit-remaining": "0", "x-rate-limit-reset": value], status: 429, of: .create,
        serverNow: now)
    }
    let wait = await budgets.secondsToWaitAfterRefusal(of: .create)
    #expect(wait >= min(least, 1) && wait >= least - 5 && wait <= most, "\(value): \(wait)")
    #expect(await budgets.secondsToWait(for: .create) <= most)
    #expect(await budgets.secondsToWait(for: .get) == 0)
    #expect(log.count <= 1)
    if most == 900 { #expect(log.count == 1) }
    // The warning names the wait that follows.
    switch most {
    case 60: #expect(log.last?.contains("Lethe waits 60 s") == true, "\(log.last ?? "none")")
    case 900: #expect(log.last?.contains("Lethe waits 15 minutes at most") == true)
    default: break
    }
  }

  /// A year with many digits must not exceed the range of the numbers in the computation and in the warning.
  @Test(
    arguments: [
      "Wed, 25 Nov 99999999999999999999 00:00:00 GMT", "Wed, 25 Nov 999999999 00:00:00 GMT",
      "Wed, 99999999999999999999 Nov 2026 00:00:00 GMT",
    ])
  func aDateOutsideTheRangeIsIgnored(text: String) async {
    let clock = ServerClock(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    await clock.note(["Date": text])
    #expect(abs(await clock.now.timeIntervalSinceNow) < 1)
    #expect(await clock.skew == nil)
    let budgets = RateBudgets(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    await budgets.note(["Retry-After": text], status: 503, of: .get, serverNow: Date())
    #expect(await budgets.secondsOfRetryAfter(.get) == 0)
  }

  /// A success shows that the limit was not used up, but it does not show how many requests are left.
  @Test(arguments: [(200, 0.0), (204, 0), (429, 890), (503, 890), (404, 890)])
  func aSuccessWithoutTheHeadersEndsTheLimit(status: Int, least: Double) async {
    let budgets = RateBudgets(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let now = Date(timeIntervalSince1970: 1_790_000_000)
    let refusal: HTTPHeaders = [
      "x-rate-limit-remaining": "0", "x-rate-limit-reset": "1790000900", "Retry-After": "1",
    ]
    for endpoint in [Endpoint.create, .get] {
      await budgets.note(refusal, status: 429, of: endpoint, serverNow: now)
    }
    await budgets.note([:], status: status, of: .create, serverNow: now)
    let wait = await budgets.secondsToWait(for: .create)
    #expect(least == 0 ? wait == 0 : wait >= least - 60, "\(wait)")
    await budgets.note([:], status: 500, of: .get, serverNow: now)
    #expect(await budgets.secondsToWait(for: .get) >= 830)
  }

  /// A refusal after the reset of an old budget has another reason, so Lethe waits as long as without a budget.
  @Test(arguments: [-1, 300]) func aRefusalAfterTheResetIsNotOfTheOldBudget(seconds: Double) async {
    let budgets = RateBudgets(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let now = Date(timeIntervalSince1970: 1_790_000_000)
    await budgets.note(
      ["x-rate-limit-remaining": "5", "x-rate-limit-reset": "\(1_790_000_000 + Int(seconds))"],
      status: 200, of: .get, serverNow: now)
    await budgets.note([:], status: 429, of: .get, serverNow: now)
    let wait = await budgets.secondsToWaitAfterRefusal(of: .get)
    #expect(seconds < 0 ? wait == 60 : wait > 240, "\(wait)")
  }

  @Test(
    arguments: [
      ("7", 429, 7), ("7", 503, 7), ("Wed, 25 Nov 2026 00:00:09 GMT", 503, 9), ("1e300", 429, 900),
      ("nan", 503, 0), ("-5", 503, 0), ("soon", 503, 0), ("7", 500, 0),
    ] as [(String, Int, Double)])
  func retryAfterIsUsed(text: String, status: Int, seconds: Double) async throws {
    let budgets = RateBudgets(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let now = try #require(HTTPDate.date("Wed, 25 Nov 2026 00:00:00 GMT"))
    await budgets.note(["Retry-After": text], status: status, of: .get, serverNow: now)
    let wait = await budgets.secondsOfRetryAfter(.get)
    #expect(abs(wait - seconds) < 2, "\(wait)")
  }

  @Test(arguments: [-960.0, 960, -90, 90, -30, 30, 0])
  func aServerClockThatDiffersByMoreThanAMinuteIsUsed(skew: Double) async {
    let log = LogCounter()
    let clock = ServerClock(logger: Logger(label: "test") { _ in log })
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = TimeZone(secondsFromGMT: 0)
    formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
    for _ in 1...2 {
      await clock.note(["Date": formatter.string(from: Date().addingTimeInterval(skew))])
    }
    let ahead = await clock.now.timeIntervalSinceNow
    #expect(abs(ahead - (abs(skew) > 60 ? skew : 0)) < 3, "\(ahead)")
    #expect(log.count == (abs(skew) > 60 ? 1 : 0))
    await clock.note(["Date": "yesterday"])
    #expect(abs(await clock.now.timeIntervalSinceNow - ahead) < 3)
  }
}
