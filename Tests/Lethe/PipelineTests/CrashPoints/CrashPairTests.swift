import ComplianceService
import CrashPoints
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Ordered pairs of crash points: one process is killed at the first point, and the next process at the second. There are
/// too many pairs for each test run: `make crash-pairs PART=1/100` tries every hundredth pair.
@Suite(
  .endedIfItHangs, .printsCrashTally,
  .enabled("set LETHE_CRASH_PAIRS to a part, such as 1/100") { CrashPairs.part != nil })
struct CrashPairTests {
  @Test(arguments: CrashPairs.points)
  func aNightThatIsKilledTwiceHasTheSameOutcome(first: CrashPoint) async throws {
    for second in CrashPairs.points where CrashPairs.isInPart(first, second) {
      guard
        let (scenario, night) = try await UninterruptedNights.shared.night(
          reaching: first, then: second)
      else { continue }
      try await CrashFixture.killed(
        at: [.init(point: first), .init(point: second)], scenario, .native, as: night)
    }
  }
}

enum CrashPairs {
  static let points = CrashPoint.allCases.filter { $0.exists(in: .native) }

  /// The part of all pairs to try: its number, from 1, and the number of parts.
  static let part: (number: Int, of: Int)? = {
    let text = ProcessInfo.processInfo.environment["LETHE_CRASH_PAIRS"] ?? ""
    let numbers = text.split(separator: "/").compactMap { Int($0) }
    guard numbers.count == 2, numbers[1] > 0 else { return nil }
    return (numbers[0], numbers[1])
  }()

  static func isInPart(_ first: CrashPoint, _ second: CrashPoint) -> Bool {
    guard let part, let row = points.firstIndex(of: first),
      let column = points.firstIndex(of: second)
    else { return false }
    return (row * points.count + column) % part.of == part.number - 1
  }
}

extension UninterruptedNights {
  /// The first scenario that reaches both points. Nil if there is none.
  func night(
    reaching first: CrashPoint, then second: CrashPoint
  ) async throws -> (CrashScenario, UninterruptedNight)? {
    for scenario in CrashScenario.allCases {
      let night = try await night(scenario, .native)
      if night.reached[first] != nil, night.mayReach(second) { return (scenario, night) }
    }
    return nil
  }
}

/// Two processes of a team, of which one is killed. There are too many nights for each test run: `make crash-teams`.
@Suite(
  .endedIfItHangs, .printsCrashTally,
  .enabled("set LETHE_CRASH_TEAMS") {
    ProcessInfo.processInfo.environment["LETHE_CRASH_TEAMS"] != nil
  })
struct CrashTeamTests {
  /// Which of the two processes reaches a point depends on their speed, so a process may end without being killed.
  @Test(arguments: CrashPoint.tried.filter { $0.exists(in: .native) })
  func theOtherProcessFinishesTheNight(point: CrashPoint) async throws {
    let night = try await UninterruptedNights.shared.night(.night, .native)
    try await CrashFixture.killedInTeam(at: point, as: night)
  }
}

extension CrashFixture {
  /// Spends a night with two processes of a team. One of them is killed if it reaches the point. The other one must run
  /// the night to its end.
  static func killedInTeam(at point: CrashPoint, as expected: UninterruptedNight) async throws {
    try await with(.night, .native) { fixture in
      async let other = fixture.lethe(["run", "--join"])
      let hasBegun: SQL = "SELECT count(*) > 1 FROM lethe.run"
      try await fixture.database.withConnection { connection in
        while try await !connection.query(hasBegun).onlyRow(as: Bool.self) {
          try await pollingPause()
        }
      }
      let killed = try await fixture.lethe(
        ["run", "--join", "--resume-only"], ["LETHE_CRASH_POINT": point.description])
      let ending = try await other
      let said = "\(point): \(killed.stderr) \(ending.stderr)"
      #expect(ending.code == expected.code, "\(said)")
      #expect([SIGKILL, expected.code, 0].contains(killed.code), "\(killed.code) \(said)")
      let outcome = try await fixture.outcome()
      #expect(outcome.difference(from: expected.outcome).map { "\($0)" } == [], "\(said)")
      #expect(try await fixture.faults() == [], "\(said)")
      let kills = killed.code == SIGKILL ? 1 : 0
      let failed = try await fixture.failedAttempts()
      #expect(failed <= CrashScenario.night.failedAttemptsMax + kills, "\(said)")
      CrashTally.shared.add([point], runs: 2, kills: kills)
    }
  }
}
