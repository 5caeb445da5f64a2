import Testing

@testable import ApplyStage
@testable import Definitions

/// How long apply waits for a given observation.
@Suite struct PaceDecisionTests {
  private static func size(_ bytes: Int) -> ByteSize { ByteSize(bytes: bytes) }

  private static func standby(
    _ name: String, seconds: Double = 0, bytes: Int = 0
  ) -> PaceObservation.Standby {
    .init(name: name, lag: .init(time: TimeSpan(seconds: seconds), size: size(bytes)))
  }

  private static func isWait(_ decision: PaceDecision, about seconds: Double) -> Bool {
    guard case .wait(let actual, _) = decision else { return false }
    return abs(actual - seconds) < 1e-6
  }

  @Test func withoutAPaceApplyNeverWaits() {
    var observation = PaceObservation(
      secondsSinceCommit: 0, rowsChanged: 1_000_000, wal: Self.size(1 << 40),
      standbys: [Self.standby("one", seconds: 1e6, bytes: 1 << 40)])
    observation.archive = .init(
      waiting: Self.size(1 << 40), isFailing: true, segment: Self.size(1 << 24))
    #expect(ApplyPace().decision(on: observation, waitedSeconds: 0) == .goOn)
    #expect(ApplyPace().warnings(on: observation) == [])
  }

  /// The pause begins with the commit, and there is none before the first transaction.
  @Test func aPauseFollowsACommit() {
    let pace = ApplyPace(pauseMilliseconds: 2500)
    func decision(_ since: Double?) -> PaceDecision {
      pace.decision(
        on: PaceObservation(elapsedSeconds: 100, secondsSinceCommit: since), waitedSeconds: 0)
    }
    #expect(decision(nil) == .goOn)
    #expect(decision(0) == .wait(seconds: 2.5, .pause(milliseconds: 2500)))
    #expect(Self.isWait(decision(2), about: 0.5))
    #expect(decision(2.5) == .goOn)
  }

  /// The rows since the last wait are counted. The time that the work has already taken makes the wait shorter.
  @Test func theRowsStayUnderTheRate() {
    let pace = ApplyPace(rowsPerSecond: 1000)
    func decision(_ rows: Int, _ seconds: Double) -> PaceDecision {
      pace.decision(
        on: PaceObservation(elapsedSeconds: seconds, rowsChanged: rows), waitedSeconds: 0)
    }
    #expect(decision(0, 0) == .goOn)
    #expect(decision(20_000, 0.5) == .wait(seconds: 19.5, .rows(20_000, perSecondMax: 1000)))
    #expect(decision(20_000, 20) == .goOn)
    #expect(decision(20_000, 3600) == .goOn)
  }

  /// WAL that other sessions write during the wait makes it longer.
  @Test func theWALStaysUnderTheRate() {
    let pace = ApplyPace(walRateMax: Self.size(20_000_000))
    func decision(_ bytes: Int, _ seconds: Double) -> PaceDecision {
      pace.decision(
        on: PaceObservation(elapsedSeconds: seconds, wal: Self.size(bytes)), waitedSeconds: 0)
    }
    #expect(Self.isWait(decision(60_000_000, 1), about: 2))
    #expect(Self.isWait(decision(90_000_000, 3), about: 1.5))
    #expect(decision(90_000_000, 4.5) == .goOn)
  }

  @Test(arguments: [
    (ApplyPace.ReplicaLag.time(TimeSpan(seconds: 10)), true),
    (.time(TimeSpan(seconds: 12)), false), (.size(ByteSize(bytes: 4000)), true),
    (.size(ByteSize(bytes: 5000)), false),
  ])
  func applyWaitsForAStandbyOverTheBound(lagMax: ApplyPace.ReplicaLag, waits: Bool) {
    let pace = ApplyPace(replicaLagMax: lagMax)
    let behind = Self.standby("far", seconds: 12, bytes: 5000)
    let decision = pace.decision(
      on: PaceObservation(standbys: [Self.standby("near"), behind]), waitedSeconds: 0)
    #expect(
      decision
        == (waits ? .wait(seconds: ApplyPace.lagPollSeconds, .standby(behind, lagMax)) : .goOn)
    )
  }

  @Test func theStandbyThatLagsMostIsReported() {
    let pace = ApplyPace(replicaLagMax: .time(TimeSpan(seconds: 1)))
    let decision = pace.decision(
      on: PaceObservation(standbys: [
        Self.standby("one", seconds: 2), Self.standby("two", seconds: 30),
        Self.standby("three", seconds: 3),
      ]), waitedSeconds: 0)
    guard case .wait(_, let cause) = decision else {
      Issue.record("\(decision)")
      return
    }
    #expect("\(cause)" == "the standby two lags by 30 s, and replica_lag_max is 1 s")
  }

  /// With `replicas`, only the named standbys count. If one of them is missing, there is a warning.
  @Test func onlyTheNamedStandbysCount() {
    let pace = ApplyPace(
      replicaLagMax: .size(Self.size(100)), replicas: ["reports", "standby2"])
    func observation(_ bytes: Int) -> PaceObservation {
      PaceObservation(standbys: [
        Self.standby("delayed", bytes: 1 << 40), Self.standby("reports", bytes: bytes),
      ])
    }
    #expect(pace.decision(on: observation(100), waitedSeconds: 0) == .goOn)
    #expect(Self.isWait(pace.decision(on: observation(101), waitedSeconds: 0), about: 0.5))
    #expect(pace.warnings(on: observation(0)) == [.standbyMissing("standby2")])
  }

  /// Without a standby, or without the privilege to see its lag, apply does not wait.
  @Test func anUnknownLagIsAWarning() {
    let pace = ApplyPace(replicaLagMax: .time(TimeSpan(seconds: 1)))
    let none = PaceObservation(role: "nightly")
    #expect(pace.decision(on: none, waitedSeconds: 0) == .goOn)
    #expect(pace.warnings(on: none) == [.noStandby])
    let hidden = PaceObservation(
      standbys: [.init(name: "one", lag: nil)], seesLags: false, role: "nightly")
    #expect(pace.decision(on: hidden, waitedSeconds: 0) == .goOn)
    #expect(pace.warnings(on: hidden) == [.lagHidden(role: "nightly")])
    #expect(
      pace.warnings(on: PaceObservation(seesLags: false, role: "nightly"))
        == [.noStandby, .lagHidden(role: "nightly")])
    #expect(
      PaceWarning.lagHidden(role: "\"My role\"").remedy == "GRANT pg_read_all_stats TO \"My role\"")
  }

  /// The archive may lag by as much WAL as the rate allows in a minute, or by four files if that is more.
  @Test(arguments: [
    (1 << 20, 64 << 20, false), (1 << 20, (64 << 20) + 1, true), (2 << 20, 120 << 20, false),
    (2 << 20, (120 << 20) + 1, true),
  ])
  func theArchiveMayLagByAMinuteOfTheRate(rate: Int, waiting: Int, waits: Bool) {
    let pace = ApplyPace(walRateMax: Self.size(rate))
    let archive = PaceObservation.Archive(
      waiting: Self.size(waiting), isFailing: false, segment: Self.size(16 << 20))
    let decision = pace.decision(on: PaceObservation(archive: archive), waitedSeconds: 0)
    #expect((decision != .goOn) == waits)
  }

  /// A wait does not help an archive that fails.
  @Test func aFailingArchiveIsAWarning() {
    let pace = ApplyPace(walRateMax: Self.size(1 << 20))
    let archive = PaceObservation.Archive(
      waiting: Self.size(1 << 40), isFailing: true, segment: Self.size(16 << 20))
    let observation = PaceObservation(archive: archive)
    #expect(pace.decision(on: observation, waitedSeconds: 0) == .goOn)
    #expect(pace.warnings(on: observation) == [.archiveFailing])
  }

  /// The waits for several causes are not added. If one of the causes is a lag, this cause is named, because a lag
  /// can last.
  @Test func theLongestWaitCounts() {
    let pace = ApplyPace(
      pauseMilliseconds: 3000, rowsPerSecond: 10,
      replicaLagMax: .size(Self.size(1)))
    var observation = PaceObservation(
      elapsedSeconds: 1, secondsSinceCommit: 0, rowsChanged: 100)
    #expect(
      pace.decision(on: observation, waitedSeconds: 0)
        == .wait(seconds: 9, .rows(100, perSecondMax: 10)))
    let behind = Self.standby("one", bytes: 2)
    observation.standbys = [behind]
    #expect(
      pace.decision(on: observation, waitedSeconds: 0)
        == .wait(seconds: 9, .standby(behind, .size(Self.size(1)))))
  }

  /// A wait ends after ten minutes, for any cause.
  @Test func noWaitIsLongerThanTenMinutes() {
    let pace = ApplyPace(walRateMax: Self.size(1))
    let observation = PaceObservation(wal: Self.size(1_000_000))
    let cause = PaceCause.wal(Self.size(1_000_000), perSecondMax: Self.size(1))
    #expect(pace.decision(on: observation, waitedSeconds: 0) == .wait(seconds: 600, cause))
    #expect(pace.decision(on: observation, waitedSeconds: 590) == .wait(seconds: 10, cause))
    #expect(pace.decision(on: observation, waitedSeconds: 600) == .goOnAnyway(cause))
  }
}
