import ComplianceAPI
import ComplianceService
import FaultPlans
import Foundation
import Runtime
import SQLText
import Synchronization
import TestSupport
import Testing

/// Runs that end while a result is downloaded.
@Suite(.endedIfItHangs) struct InterruptedDownloadTests {
  /// The statuses of the downloads, in the order of the calls.
  private final class Log: Sendable {
    private let lines = Mutex<[String]>([])

    func add(_ line: String) { lines.withLock { $0.append(line) } }

    var downloads: [Int] {
      lines.withLock { $0 }.compactMap { line in
        guard
          let entry = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
          entry["method"] as? String == "GET", let path = entry["path"] as? String,
          path.hasSuffix("/download") || path.hasPrefix("/compliance/results/")
        else { return nil }
        return entry["status"] as? Int
      }
    }
  }

  /// The next run has another lease, so its files have other names. It continues the download of the former run.
  @Test(arguments: WireProfile.allCases)
  func theNextRunContinuesTheDownload(profile: WireProfile) async throws {
    let log = Log()
    let plan = try FaultPlan(
      yaml: "faults:\n  - {at: download, call: 1, cut: during}\n", file: "plan.yaml")
    try await PipelineFixture.with({
      $0.profile = profile
      $0.faults = plan
      $0.accessLog = { log.add($0) }
    }) { fixture in
      try await fixture.addSamples(
        posts: 300, users: 24, editedPostsLoseLocations: profile == .native)
      let pipeline = try fixture.pipeline {
        $0.editing(
          "  poll_seconds: 0.02", to: "  allowed_hosts: [127.0.0.2]\n  poll_seconds: 0.02")
      }
      func leftovers() throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: fixture.workDirectory)
          .filter { $0.contains(".partial") }
      }
      // Without a retry, the first run ends after the interruption.
      _ = try? await PipelineRuntime.with(
        pipeline, workDirectory: fixture.workDirectory, retry: RetryPolicy(attemptsMax: 1),
        logger: PipelineFixture.logger
      ) { _ = try await $0.run() }
      #expect(!log.downloads.contains(206))
      #expect(try leftovers().count == 2)

      try await fixture.withRuntime(pipeline) { _ = try await $0.run(resumeOnly: true) }
      #expect(log.downloads.count { $0 == 206 } == 1)
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
      #expect(try await fixture.value("SELECT max(attempt) FROM lethe.job", as: Int.self) == 1)
      if FileManager.default.fileExists(atPath: fixture.workDirectory) {
        #expect(try leftovers() == [])
      }
    }
  }
}
