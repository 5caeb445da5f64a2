import Definitions
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// An earlier version of Lethe created tombstones of posts from the IDs of other objects, for example lists. The repair
/// finds and removes these tombstones, and no others.
@Suite struct TombstoneRepairTests {
  /// Runs `body` after a run like that of an earlier version of Lethe. The run deletes user 1, and with the user the
  /// lists 7 and 8 and post 5. It records each of these IDs as the ID of a post. The run also deletes post 8. The
  /// tombstone of post 8 has the job and the time of list 8.
  /// - Parameter storesTypes: whether the run's copy of the definition has the types of the targets.
  private static func withFormerRun(
    storesTypes: Bool = false,
    _ body: @escaping @Sendable (PipelineFixture) async throws -> Void
  ) async throws {
    try await TypedTargetTests.withFixture(deleted: ["users": [1], "posts": [8]]) { fixture in
      let pipeline = try fixture.pipeline { _ in
        TypedTargetTests.yaml(listType: "tweets", pinned: "none")
      }
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(try await tombstones(fixture) == ["tweets/5", "tweets/7", "tweets/8", "users/1"])
      try await fixture.execute(
        """
        UPDATE lethe.tombstone AS t SET job_id = e.job_id, deleted_at = e.applied_at
        FROM lethe.event AS e WHERE t.type = 'tweets' AND t.id = 8 AND e.id = 8 AND e.cause_id = 1
        """)
      if !storesTypes {
        try await fixture.execute(
          """
          UPDATE lethe.run SET definition = definition #- '{datasets,0,targets,0,type}'
            #- '{datasets,0,targets,1,type}' #- '{datasets,1,targets,0,type}'
          """)
      }
      try await body(fixture)
    }
  }

  private static func tombstones(_ fixture: PipelineFixture) async throws -> [String] {
    try await fixture.database.withConnection {
      try await $0.query("SELECT type || '/' || id FROM lethe.tombstone ORDER BY 1")
        .rows(as: String.self)
    }
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// The type of the lists in the current definition. Nil if the target no longer has the key `id`.
    let type: String?
    /// Whether the run's copy of the definition has the types of the targets.
    var storesTypes = false
    var setupSQL: SQL = "SELECT"
    /// The expected findings: the numbers of wrong, undecided and justified tombstones for each table.
    var wrong: [String: Int] = [:]
    var undecided: [String: Int] = [:]
    var justified: [String: Int] = [:]
  }

  private static let one = ["shop.lists": 1]

  private static let cases: [Case] = [
    Case(testDescription: "the lists have no type", type: "none", wrong: one, justified: one),
    Case(
      testDescription: "the lists have the type users", type: "users", wrong: one, justified: one),
    Case(testDescription: "the lists have the type tweets", type: "tweets"),
    Case(
      testDescription: "the target has no ID column any more", type: nil, undecided: one,
      justified: one),
    Case(
      testDescription: "the run's definition has a wrong type", type: "none", storesTypes: true,
      wrong: one,
      justified: one),
    Case(
      testDescription: "a run of another pipeline without types", type: "none",
      setupSQL: "UPDATE lethe.run SET pipeline = 'other'", wrong: one, justified: one),
    Case(
      testDescription: "a run of another pipeline with types", type: "none",
      storesTypes: true, setupSQL: "UPDATE lethe.run SET pipeline = 'other'"),
    Case(
      testDescription: "no record remains", type: "none",
      setupSQL: "DELETE FROM lethe.event WHERE cause_id = 1"),
    Case(
      testDescription: "the tombstone is of another job", type: "none",
      setupSQL: "UPDATE lethe.tombstone SET job_id = job_id + 100"),
    Case(
      testDescription: "the tombstone is of another time", type: "none",
      setupSQL: "UPDATE lethe.tombstone SET deleted_at = deleted_at - interval '1 second'"),
    Case(
      testDescription: "the post was deleted for another cause later", type: "none",
      setupSQL: """
        INSERT INTO lethe.event (id, type, reason, action, chunk_id, job_id, applied_at, changed, cause_id)
        SELECT 7, 'tweets', 'deleted', 'redact', chunk_id, job_id, applied_at,
               '{"redact shop.posts": 1}', 2 FROM lethe.event WHERE id = 1
        """, justified: ["shop.lists": 2]),
    Case(
      testDescription: "an answer about the post that deletes nothing", type: "none",
      setupSQL: """
        INSERT INTO lethe.event (id, type, reason, action, chunk_id, job_id, applied_at)
        SELECT 7, 'tweets', 'deleted', 'ignore', chunk_id, job_id, applied_at
        FROM lethe.event WHERE id = 1
        """, wrong: one, justified: one),
    Case(
      testDescription: "a superseded answer about the post", type: "none",
      setupSQL: """
        INSERT INTO lethe.event
          (id, type, reason, action, chunk_id, job_id, applied_at, superseded_by)
        SELECT 7, 'tweets', 'deleted', 'delete', chunk_id, job_id, applied_at, 99
        FROM lethe.event WHERE id = 1
        """, wrong: one, justified: one),
  ]

  private static func currentYAML(_ type: String?) -> String {
    let yaml = TypedTargetTests.yaml(listType: type ?? "none", pinned: "none")
    guard type == nil else { return yaml }
    return yaml.editing("        id: list_id\n        type: none\n", to: "")
      .editing(
        "        targets: [{table: shop.members, match: list_id, actions: {deleted: delete}}]\n",
        to: "")
  }

  @Test(arguments: cases)
  func onlyTombstonesThatAreProvenWrongAreRemoved(testCase: Case) async throws {
    try await Self.withFormerRun(storesTypes: testCase.storesTypes) { fixture in
      try await fixture.execute(testCase.setupSQL)
      let definition = try fixture.pipeline { _ in Self.currentYAML(testCase.type) }.definition
      #expect((definition.datasets[0].targets[0].id == nil) == (testCase.type == nil))
      try await fixture.database.withConnection { connection in
        let repair = TombstoneRepair(connection: connection)
        let found = try await repair.findings(definition)
        #expect(found.wrong == testCase.wrong)
        #expect(found.undecided == testCase.undecided)
        #expect(found.justified == testCase.justified)
        let dry = try await repair.repair(definition, by: "ann", note: nil, isDryRun: true)
        #expect(dry == found)
        #expect(
          try await Self.tombstones(fixture) == ["tweets/5", "tweets/7", "tweets/8", "users/1"])
        let done = try await repair.repair(definition, by: "ann", note: nil, isDryRun: false)
        #expect(done.wrong == testCase.wrong)
        #expect((done.sealNumber == nil) == testCase.wrong.isEmpty)
        let left = testCase.wrong.isEmpty ? ["tweets/5", "tweets/7"] : ["tweets/5"]
        #expect(try await Self.tombstones(fixture) == left + ["tweets/8", "users/1"])
      }
    }
  }

  @Test func checkNamesTheRepairCommandAndTheChainRecordsTheRepair() async throws {
    try await Self.withFormerRun { fixture in
      let file = try fixture.definitionFile { _ in Self.currentYAML("none") }
      func lethe(_ arguments: String...) async throws -> Program.Result {
        try await Program.run("lethe", arguments, environment: fixture.environment)
      }
      let check = try await lethe("check", file)
      #expect(check.code == 0, "\(check.stderr)")
      #expect(
        check.stdout.contains(
          "night.yaml:14: warning: 1 tombstone was created from rows of shop.lists"),
        "\(check.stdout)")
      #expect(check.stdout.contains("remedy: run lethe guard repair \(file)"), "\(check.stdout)")

      let dry = try await lethe("guard", "repair", file, "--dry-run", "--output", "json")
      #expect(dry.code == 0, "\(dry.stderr)")
      #expect(dry.json["tombstones"] as? Int == 1)
      #expect(dry.json["seal"] == nil)
      #expect(try await Self.tombstones(fixture).contains("tweets/7"))

      let repair = try await lethe(
        "guard", "repair", file, "--by", "ann", "--note", "7 is a list", "--output", "json")
      #expect(repair.code == 0, "\(repair.stderr)")
      #expect(repair.json["wrong"] as? [String: Int] == ["shop.lists": 1])
      #expect(repair.json["justified"] as? [String: Int] == ["shop.lists": 1])
      let seal = try #require(repair.json["seal"] as? Int)
      #expect(try await Self.tombstones(fixture) == ["tweets/5", "tweets/8", "users/1"])

      let show = try await lethe("audit", "show", "7")
      for text in [
        "reached", "withdrawn", "created for a row of shop.lists", "by ann: 7 is a list",
        "sealed by record \(seal)",
      ] {
        #expect(show.stdout.contains(text), "\(show.stdout)")
      }
      let json = try await lethe("audit", "show", "7", "--output", "json").json
      #expect((json["withdrawals"] as? [[String: Any]])?.first?["by"] as? String == "ann")
      #expect((json["tombstones"] as? [Any])?.isEmpty == true)
      let again = try await lethe("guard", "repair", file)
      #expect(again.stdout.hasPrefix("no tombstone is proven wrong"), "\(again.stdout)")
      #expect(try await !lethe("check", file).stdout.contains("tombstone"))

      let verified = try await lethe("audit", "verify")
      #expect(verified.code == 0, "\(verified.stdout)")
      for tampering in [
        "UPDATE lethe.withdrawn_tombstone SET id = 6", "DELETE FROM lethe.withdrawn_tombstone",
        """
        INSERT INTO lethe.withdrawn_tombstone VALUES (1, 'tweets', 9, 'deleted', 1, now(), 'shop.lists')
        """,
      ] {
        try await fixture.execute(
          "CREATE TABLE kept AS TABLE lethe.withdrawn_tombstone; \(trusted: tampering)")
        let found = try await lethe("audit", "verify")
        #expect(found.code == 1)
        #expect(found.stdout.contains("lethe.withdrawn_tombstone"), "\(found.stdout)")
        try await fixture.execute(
          """
          TRUNCATE lethe.withdrawn_tombstone;
          INSERT INTO lethe.withdrawn_tombstone TABLE kept; DROP TABLE kept
          """)
      }
      #expect(try await lethe("audit", "verify").code == 0)
    }
  }
}
