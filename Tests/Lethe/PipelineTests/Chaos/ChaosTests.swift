import ComplianceService
import FaultPlans
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Nights with random faults of every kind at the same time: three processes of a team, an API that fails in many ways,
/// and a database server that crashes and is replaced by its standby.
///
/// `LETHE_SEED` repeats a night, as far as the order of the processes allows. `make chaos` runs a large one.
@Suite(.serialized, Night.timeLimit) struct ChaosTests {
  @Test(arguments: Night.all)
  func theWarehouseIsCorrectInTheMorning(night: Night) async throws {
    print("ChaosTests: LETHE_SEED=\(night.seed)")
    let comment: Comment = "LETHE_SEED=\(night.seed)"
    let plan = try FaultPlan(yaml: Self.faults(seed: night.seed), file: "plan.yaml")
    try await withOwnServer("wal_sender_timeout = 0", "wal_keep_size = '4GB'") { primary in
      try await PipelineFixture.withWarehouse(
        on: primary, posts: night.posts, users: night.users,
        {
          $0.faults = plan
          $0.sweepInterval = .milliseconds(50)
        }
      ) { single, platform in
        try await primary.withStandby(named: "second") { standby in
          try await primary.replicateSynchronously(to: "second")
          let fixture = single.with(primary.withFailover(single.database, to: standby))
          let file = try fixture.definitionFile(night.definition)
          let team = Team(fixture, file, seed: night.seed)
          var faults = ChaosFaults(night, team, primary: primary, standby: standby, fixture)
          try await withThrowingTaskGroup { group in
            for member in 0..<Team.size {
              group.addTask { try await team.work(as: member, comment) }
            }
            try await faults.happen()
            try await group.waitForAll()
          }
          let last = try await Program.run(
            "lethe", ["run", file, "--resume-only"], environment: fixture.environment)
          #expect(last.code == 0, "\(comment): \(last.stderr)")
          try await fixture.audit(platform, comment)
          let served = try await fixture.faultCounts().sorted { $0.key < $1.key }
            .map { "\($0.key) \($0.value)" }
          print(
            "ChaosTests: \(faults.tally), starts \(await team.starts), \(served.joined(separator: ", "))"
          )
        }
      }
    }
  }

  /// Every third call gets a status of 500, and the others fail in other ways now and then.
  private static func faults(seed: UInt64) -> String {
    """
    seed: \(seed % 1_000_000)
    faults:
      - {name: lost creation, at: create, every: 4, lose_response: true}
      - {name: error, at: [create, list, get, upload, download], every: 3, answer: {status: 500, body: html}}
      - {name: lost upload, at: upload, every: 5, lose_response: true}
      - {name: cut before, at: [upload, get], every: 7, cut: before}
      - {name: cut during, at: download, every: 4, cut: during}
      - {name: cut after, at: [list, get], every: 5, cut: after}
      - {name: html, at: download, every: 7, answer: {status: 200, body: html}}
      - {name: failed job, fail: internal error, every: 6}
      - {name: slow job, slow: 50ms, every: 2}
      - {name: repeated lines, duplicate_lines: 3}
    """
  }
}

/// The size of a night.
struct Night: Sendable, CustomTestStringConvertible {
  let seed: UInt64
  let posts: Int
  let users: Int
  /// The number of processes to kill.
  let kills: Int
  /// The bytes of WAL between two faults, on average.
  let walBytes: Int

  var testDescription: String { "LETHE_SEED=\(seed), \(posts) posts" }

  private static let isLarge = ProcessInfo.processInfo.environment["LETHE_CHAOS"] != nil

  /// The large night takes far longer than any other test.
  static let timeLimit: TimeLimitTrait = isLarge ? .timeLimit(.minutes(240)) : .endedIfItHangs

  /// With `LETHE_CHAOS`, one large night. Otherwise three small ones with different seeds.
  static let all: [Night] = {
    let seed = SeededGenerator.seedOfTest()
    if isLarge {
      return [
        Night(seed: seed, posts: 2_000_000, users: 100_000, kills: 50, walBytes: 30_000_000)
      ]
    }
    let count = ProcessInfo.processInfo.environment["LETHE_CHAOS_NIGHTS"].flatMap { Int($0) } ?? 3
    return (0..<count).map {
      Night(
        seed: seed &+ UInt64($0), posts: 6000, users: 200, kills: 6, walBytes: 300_000)
    }
  }()

  /// Twenty chunks in the large night, eight in a small one.
  func definition(_ definition: String) -> String {
    let isLarge = posts > 100_000
    return definition.editing(
      "chunk: {ids: 700}", to: "chunk: {ids: \(posts / (isLarge ? 15 : 6))}"
    )
    .editing("batch: 20\n", to: "batch: \(isLarge ? 5000 : 100)\n")
    .editing(
      "batch: 3\n",
      to: "chunk: {ids: \(users / (isLarge ? 6 : 2))}\n    batch: \(isLarge ? 1000 : 30)\n"
    )
    .editing("max_redacted_rows: 100000,", to: "max_redacted_rows: 100000000,")
    .editing("limits:", to: "timeouts: {lease_seconds: 15}\nlimits:")
    .editing(
      "  poll_seconds: 0.02",
      to: "  allowed_hosts: [127.0.0.2]\n  job_attempts: 100\n  poll_seconds: 0.02")
  }
}
