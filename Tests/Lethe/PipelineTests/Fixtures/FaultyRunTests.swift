import ComplianceService
import FaultPlans
import Foundation
import FoundationNetworking
import Runtime
import TestSupport
import Testing

/// Complete runs against a service with planned faults. After the runs, the warehouse is correct, and every required
/// fault has occurred.
@Suite struct FaultyRunTests {
  private static func plan(_ faults: String...) throws -> FaultPlan {
    try FaultPlan(
      yaml: "seed: 11\nfaults:\n" + faults.map { "  - \($0)\n" }.joined(), file: "plan.yaml")
  }

  /// - Parameter isLegacy: whether some or all of the run's jobs have the gcs profile.
  /// - Returns: the names of the faults that were served.
  private static func runPipeline(
    _ plan: FaultPlan, runs: Int = 1, isLegacy: Bool = false,
    _ configure: @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in }
  ) async throws -> Set<String> {
    try await PipelineFixture.with({
      $0.faults = plan
      configure(&$0)
    }) { fixture in
      try await fixture.addSamples(editedPostsLoseLocations: !isLegacy)
      let pipeline = try fixture.pipeline {
        $0.editing(
          "  poll_seconds: 0.02", to: "  allowed_hosts: [127.0.0.2]\n  poll_seconds: 0.02")
      }
      for run in 1...runs {
        do {
          _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
        } catch  where run < runs {
          // The next run resumes the work.
        }
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
      return try await fixture.faultsServed()
    }
  }

  @Test func aBadConnectionDoesNotChangeTheResult() async throws {
    let served = try await Self.runPipeline(
      // If several faults apply to a call, the service serves the first one. In this order, each required fault occurs.
      Self.plan(
        "{name: cut before, at: download, call: 1, cut: before}",
        "{name: lost create, at: create, call: [1, 4], lose_response: true}",
        "{name: errors, at: [list, upload, download], every: 3, answer: {status: 500, body: html}}",
        "{name: no job, at: create, call: 2, answer: {status: 502, body: json}}",
        "{name: empty, at: [get, upload], every: 6, answer: {status: 503, body: empty}}",
        "{name: lost upload, at: upload, call: 2, lose_response: true}",
        "{name: cut during, at: download, call: [2, 3], cut: during}",
        "{name: cut after, at: get, every: 2, cut: after}",
        "{name: late, at: list, latency: 10ms}"))
    #expect(
      served.isSuperset(of: ["errors", "lost create", "cut before", "cut after"]), "\(served)")
  }

  @Test func failedAndExpiredJobsAreReplaced() async throws {
    let served = try await Self.runPipeline(
      Self.plan(
        "{name: fail, fail: internal error, call: 1}", "{name: expire, expire: true, call: 2}",
        "{name: slow, slow: 100ms, every: 2}"), runs: 2)
    #expect(served == ["fail", "expire", "slow"])
  }

  @Test func repeatedAndBlankLinesDamageNoRow() async throws {
    let served = try await Self.runPipeline(
      Self.plan(
        "{name: twice, duplicate_lines: 3}", "{name: blank, blank_lines: 3}"))
    #expect(served == ["twice", "blank"])
  }

  @Test func aRunSucceedsIfTheProfileOfTheServiceChanges() async throws {
    let served = try await Self.runPipeline(
      Self.plan("{name: switch, profile: gcs, every: 2}"), isLegacy: true)
    #expect(served == ["switch"])
  }

  @Test func aRunWithTheLegacyProfileHasTheNativeResult() async throws {
    let served = try await Self.runPipeline(
      Self.plan("{name: cut, at: download, call: 1, cut: during}"), isLegacy: true
    ) { $0.profile = .gcs }
    #expect(served == ["cut"])
  }
}

extension PipelineFixture {
  private struct Record: Decodable {
    struct Fault: Decodable { let fault: String }
    let served: [Fault]
  }

  /// The names of the faults that the service has served.
  func faultsServed() async throws -> Set<String> { Set(try await faultCounts().keys) }

  /// How often the service has served each fault, by the fault's name.
  func faultCounts() async throws -> [String: Int] {
    let url = try #require(URL(string: service + "/admin/faults"))
    let (data, _) = try await URLSession.shared.data(from: url)
    return try JSONDecoder().decode(Record.self, from: data).served
      .reduce(into: [:]) { $0[$1.fault, default: 0] += 1 }
  }
}
