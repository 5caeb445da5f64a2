import ComplianceService
import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Runs with each vocabulary that X documents. After a run, the warehouse is correct, and no line is quarantined.
@Suite(.endedIfItHangs) struct VocabularyRunTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let profile: WireProfile
    let vocabulary: ResultVocabulary
    /// The pairs of action and reason in the results, for posts and users together.
    let words: Set<String>

    var testDescription: String { "\(profile.rawValue), \(vocabulary.rawValue)" }
  }

  private static let common: Set = [
    "delete/deleted", "delete/suspended", "delete/deactivated", "delete/protected",
  ]

  @Test(arguments: [
    Case(
      profile: .native, vocabulary: .overview,
      words: common.union(["delete/bounced", "rehydrate/tweet_edited", "scrub_geo/scrub_geo"])),
    Case(
      profile: .native, vocabulary: .guide,
      words: common.union(["rehydrate/tweet_edited", "scrub_geo/geo_scrubbed"])),
    Case(
      profile: .gcs, vocabulary: .overview,
      words: common.union(["delete/bounced", "delete/scrub_geo"])),
    Case(
      profile: .gcs, vocabulary: .guide,
      words: common.union(["rehydrate/tweet_edited", "scrub_geo/geo_scrubbed"])),
  ])
  func everyWordIsAccepted(_ testCase: Case) async throws {
    let hasEdits = testCase.words.contains("rehydrate/tweet_edited")
    let words = testCase.words
    try await PipelineFixture.with({
      $0.profile = testCase.profile
      $0.vocabulary = testCase.vocabulary
    }) { fixture in
      try await fixture.addSamples(posts: 600, editedPostsLoseLocations: false)
      // Lethe must delete bounced posts in the same way as deleted posts.
      try await fixture.execute(
        "UPDATE platform.posts SET bounced_at = now() WHERE post_id % 23000 = 0")
      let pipeline = try fixture.pipeline {
        $0.editing(
          "  poll_seconds: 0.02", to: "  allowed_hosts: [127.0.0.2]\n  poll_seconds: 0.02")
      }
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(reports.map(\.status) == [.done])
      #expect(try fixture.wordsServed() == words)
      #expect(try await fixture.value("SELECT count(*) FROM lethe.quarantine", as: Int.self) == 0)
      #expect(try await fixture.ledgerFaults() == [])
      let queued = try await fixture.value("SELECT count(*) FROM lethe.rehydration", as: Int.self)
      #expect(hasEdits == (queued > 0))
      // `rowsThatDiffer` reads `deleted_at` and not `bounced_at`.
      try await fixture.execute(
        "UPDATE platform.posts SET deleted_at = bounced_at WHERE bounced_at IS NOT NULL")
      #expect(try await fixture.rowsThatDiffer() == 0)
    }
  }
}

extension PipelineFixture {
  /// The pairs of action and reason in all results that the service keeps.
  fileprivate func wordsServed() throws -> Set<String> {
    let spool = directory + "/spool"
    var words: Set<String> = []
    for name in try FileManager.default.contentsOfDirectory(atPath: spool)
    where name.hasSuffix(".ndjson") {
      let text = try String(contentsOfFile: spool + "/" + name, encoding: .utf8)
      for match in text.matches(of: /"action":"(\w+)","reason":"(\w+)"/) {
        words.insert("\(match.1)/\(match.2)")
      }
    }
    return words
  }
}
