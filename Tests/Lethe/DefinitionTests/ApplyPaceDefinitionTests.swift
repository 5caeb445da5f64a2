import TestFiles
import Testing

@testable import Definitions

/// The pace of apply in a definition.
@Suite struct ApplyPaceDefinitionTests {
  private static func pace(_ apply: String) throws -> ApplyPace {
    try Samples.parse(Samples.good.editing("limits:\n", to: "\(apply)\nlimits:\n")).pace
  }

  @Test(arguments: ["", "apply: {}"])
  func thePaceIsOffUnlessItIsSet(apply: String) throws {
    let pace = try Self.pace(apply)
    #expect(pace.isOff)
    #expect(pace == ApplyPace())
  }

  @Test func eachKeyIsRead() throws {
    let pace = try Self.pace(
      """
      apply:
        pause_ms: 200
        rows_per_second: 2_000
        replica_lag_max: 10s
        replicas: [near, far]
        wal_rate_max: 20MB
      """)
    #expect(!pace.isOff)
    #expect(
      pace
        == ApplyPace(
          pauseMilliseconds: 200, rowsPerSecond: 2000,
          replicaLagMax: .time(TimeSpan(seconds: 10)), replicas: ["near", "far"],
          walRateMax: ByteSize(bytes: 20_971_520)))
  }

  /// The units are those of PostgreSQL's settings.
  @Test(arguments: [
    ("500ms", 0.5), ("1.5 s", 1.5), ("2min", 120), ("1h", 3600), ("1d", 86400), ("250us", 0.000_25),
  ])
  func aLagMayBeATime(text: String, seconds: Double) throws {
    guard case .time(let time) = try Self.pace("apply: {replica_lag_max: \(text)}").replicaLagMax
    else {
      Issue.record("\(text) is not a time")
      return
    }
    #expect(abs(time.seconds - seconds) < seconds * 1e-9)
  }

  @Test(arguments: [
    ("64MB", 67_108_864), ("1 kB", 1024), ("0.5GB", 536_870_912), ("1TB", 1_099_511_627_776),
    ("8192B", 8192),
  ])
  func aLagMayBeASize(text: String, bytes: Int) throws {
    let pace = try Self.pace("apply: {replica_lag_max: \(text)}")
    #expect(pace.replicaLagMax == .size(ByteSize(bytes: bytes)))
  }

  /// A run keeps its definition, but it always uses the pace in the current file.
  @Test func thePaceIsNotPartOfTheDefinition() throws {
    let without = try Samples.parse(Samples.good)
    let with = try Samples.parse(
      Samples.good.editing("limits:\n", to: "apply: {pause_ms: 5}\nlimits:\n"))
    #expect(with.definition == without.definition)
  }

  @Test(arguments: [
    (0.25, "250 ms"), (1.0, "1 s"), (12.34, "12.3 s"), (119, "119 s"), (600, "10 min"),
  ])
  func aTimeIsPrintedForPeople(seconds: Double, text: String) {
    #expect("\(TimeSpan(seconds: seconds))" == text)
  }

  @Test(arguments: [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 kB"), (67_108_864, "64 MB")])
  func aSizeIsPrintedForPeople(bytes: Int, text: String) {
    #expect("\(ByteSize(bytes: bytes))" == text)
  }
}
