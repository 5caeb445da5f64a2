import ComplianceService
import CrashPoints
import Foundation
import PostgreSQL
import Synchronization
import TestSupport
import Testing

/// Each crash point in turn: the process is killed there, and the night is run again. Its outcome must be equal to that of
/// a night without interruption.
@Suite(.endedIfItHangs, .printsCrashTally) struct CrashPointTests {
  @Test(arguments: WireProfile.allCases)
  func everyPointIsReached(profile: WireProfile) async throws {
    var reached: Set<CrashPoint> = []
    for scenario in CrashScenario.allCases {
      reached.formUnion(try await UninterruptedNights.shared.night(scenario, profile).reached.keys)
    }
    #expect(CrashPoint.allCases.filter { reached.contains($0) != $0.exists(in: profile) } == [])
  }

  /// In the native profile, the process is killed when it reaches the point for the first time. In the legacy profile, it
  /// is killed in the middle of the times at which it reaches the point.
  @Test(arguments: CrashPoint.tried, WireProfile.allCases)
  func aNightThatIsKilledHasTheSameOutcome(point: CrashPoint, profile: WireProfile) async throws {
    guard point.exists(in: profile) else { return }
    let (scenario, night) = try await UninterruptedNights.shared.night(
      reaching: [point], profile)
    var kills = 0
    // How often a night reaches a point depends on the speed of the stages.
    for time in profile == .native ? [1] : Set([night.middleTime(point), 1]).sorted(by: >)
    where kills == 0 {
      kills = try await CrashFixture.killed(
        at: [.init(point: point, time: time)], scenario, profile, as: night)
    }
    #expect(kills == 1, "\(point) was not reached")
  }
}

extension CrashPoint {
  /// All points, or those whose names contain `LETHE_CRASH_ONLY`.
  static let tried = allCases.filter {
    ProcessInfo.processInfo.environment["LETHE_CRASH_ONLY"].map($0.description.contains) ?? true
  }

  /// Whether a night of this profile has the point. Only the legacy profile uploads in parts.
  func exists(in profile: WireProfile) -> Bool {
    switch (step, profile) {
    case (.sessionCall, .native), (.partCall, .native), (.stateCall, .native): false
    default: true
    }
  }
}

/// A night without interruption.
struct UninterruptedNight: Sendable {
  let code: Int32
  let outcome: [String]
  /// How often the night reaches each point.
  let reached: [CrashPoint: Int]

  init(_ scenario: CrashScenario, _ profile: WireProfile) async throws {
    self = try await CrashFixture.with(scenario, profile) { fixture in
      let trace = fixture.directory + "/trace"
      let ending = try #require(try await fixture.finishNight(["LETHE_CRASH_TRACE": trace]).last)
      let lines = try String(contentsOfFile: trace, encoding: .utf8).split(separator: "\n")
      let names = Dictionary(
        uniqueKeysWithValues: CrashPoint.allCases.map { (Substring($0.description), $0) })
      #expect(try await fixture.faults() == [], "\(scenario) \(profile) \(ending.stderr)")
      return UninterruptedNight(
        code: ending.code, outcome: try await fixture.outcome(),
        reached: lines.compactMap { names[$0] }.reduce(into: [:]) { $0[$1, default: 0] += 1 })
    }
  }

  /// The middle of the times at which the night reaches a point, counted from 1.
  func middleTime(_ point: CrashPoint) -> Int {
    let times = reached[point] ?? 1
    return times > 1 ? max(2, (times + 1) / 2) : 1
  }

  /// Whether a night of this kind, or its continuation, reaches the point.
  func mayReach(_ point: CrashPoint) -> Bool {
    reached[point] != nil
      || [.formerSessionsTerminated, .runTakenOver, .getCallBySubmit, .listCallByName]
        .contains(point.step)
  }

  private init(code: Int32, outcome: [String], reached: [CrashPoint: Int]) {
    (self.code, self.outcome, self.reached) = (code, outcome, reached)
  }
}

/// The uninterrupted nights, each spent once.
actor UninterruptedNights {
  static let shared = UninterruptedNights()

  private var nights: [String: Task<UninterruptedNight, any Error>] = [:]

  func night(
    _ scenario: CrashScenario, _ profile: WireProfile
  ) async throws -> UninterruptedNight {
    let key = "\(scenario) \(profile)"
    let night = nights[key] ?? Task { try await UninterruptedNight(scenario, profile) }
    nights[key] = night
    return try await night.value
  }
}

extension UninterruptedNights {
  /// The first scenario that reaches all of the points.
  func night(
    reaching points: [CrashPoint], _ profile: WireProfile
  ) async throws -> (CrashScenario, UninterruptedNight) {
    for scenario in CrashScenario.allCases {
      let night = try await night(scenario, profile)
      if points.allSatisfy({ night.reached[$0] != nil }) { return (scenario, night) }
    }
    throw NotReached(points: points)
  }

  struct NotReached: Error {
    let points: [CrashPoint]
  }
}

extension CrashFixture {
  /// A point and the number of times that a process reaches it before it is killed.
  struct Kill: Sendable, CustomStringConvertible {
    let point: CrashPoint
    var time = 1

    var description: String { "\(point):\(time)" }
  }

  /// Spends a night in which a process is killed at each of the points, one process after the other. Then the night is
  /// run to its end and compared with a night without interruption.
  /// - Returns: the number of processes that were killed. The others did not reach their point.
  @discardableResult
  static func killed(
    at points: [Kill], _ scenario: CrashScenario, _ profile: WireProfile,
    as expected: UninterruptedNight
  ) async throws -> Int {
    try await with(scenario, profile) { fixture in
      var (kills, endings) = (0, [Program.Result]())
      for point in points {
        guard
          let ending = try await fixture.runNight(["LETHE_CRASH_POINT": point.description])
        else { continue }
        endings.append(ending)
        if ending.code == SIGKILL { kills += 1 }
      }
      endings += try await fixture.finishNight()
      let said = "\(scenario), \(profile), \(points): \(endings.map(\.stderr))"
      let codes = endings.map(\.code)
      let possible =
        [SIGKILL, expected.code] + (scenario == .lostLease ? [CrashFixture.lostLease] : [])
      #expect(codes.allSatisfy { possible.contains($0) }, "\(codes) \(said)")
      // A process that is killed after the end of the night leaves its lease to the next night.
      let leases = try await fixture.value("SELECT count(*) FROM lethe.lease", as: Int.self)
      #expect(codes.last == SIGKILL || leases == 0, "\(said)")
      let outcome = try await fixture.outcome()
      #expect(outcome.difference(from: expected.outcome).map { "\($0)" } == [], "\(said)")
      #expect(try await fixture.faults() == [], "\(said)")
      // If the process is killed after it has cancelled a job and before it has recorded why, the chunk gets another
      // job. So each kill costs at most one attempt.
      let failed = try await fixture.failedAttempts()
      #expect(failed <= scenario.failedAttemptsMax + kills, "\(said)")
      CrashTally.shared.add(points.map(\.point), runs: endings.count, kills: kills)
      return kills
    }
  }
}

/// Counts what the tests have killed.
final class CrashTally: Sendable {
  static let shared = CrashTally()

  private struct Counts {
    var points: Set<CrashPoint> = []
    var (nights, runs, kills) = (0, 0, 0)
  }

  private let counts = Mutex(Counts())

  func add(_ points: [CrashPoint], runs: Int, kills: Int) {
    counts.withLock {
      $0.points.formUnion(points)
      $0.nights += 1
      $0.runs += runs
      $0.kills += kills
    }
  }

  var description: String {
    counts.withLock {
      """
      crash points: \(CrashPoint.allCases.count), tried: \($0.points.count), nights: \($0.nights), \
      runs: \($0.runs), of them killed: \($0.kills)
      """
    }
  }
}

/// Prints the tally at the end of a suite.
struct CrashTallyTrait: SuiteTrait, TestScoping {
  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    try await function()
    print(CrashTally.shared.description)
  }
}

extension Trait where Self == CrashTallyTrait {
  static var printsCrashTally: Self { Self() }
}

/// The source of the crash points, as a release build compiles it.
@Suite struct CrashPointBuildTests {
  @Test(arguments: [false, true])
  func onlyADebugBuildReadsTheEnvironment(isDebug: Bool) async throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "crash-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let sources = ["CrashPoint.swift", "ArmedCrashPoint.swift"].map {
      "\(repositoryRootPath)/Sources/Lethe/CrashPoints/\($0)"
    }
    let object = folder.appending(path: "crash.o").path
    let compiler = Process()
    compiler.executableURL = URL(filePath: "/usr/bin/env")
    compiler.arguments =
      ["swiftc", "-O", "-swift-version", "6", "-wmo", "-parse-as-library", "-module-name"]
      + ["CrashPoints", "-c", "-o", object] + (isDebug ? ["-D", "CRASH_POINTS"] : []) + sources
    try compiler.run()
    compiler.waitUntilExit()
    #expect(compiler.terminationStatus == 0)
    let code = try Data(contentsOf: URL(filePath: object))
    #expect((code.range(of: Data("LETHE_CRASH_POINT".utf8)) != nil) == isDebug)
  }
}
